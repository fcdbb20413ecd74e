"use strict";
// The selection of rows, the theme, and the raw rounds that a click on a mark opens.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const views = {};

const theme = () => document.documentElement.dataset.theme || "light";
const withRows = (spec, rows) => ({...spec, datasets: {...(spec.datasets || {}), ...rows}});

// On a narrow screen, labels and legends get less space.
function configFor(width) {
  const config = DATA.themes[theme()];
  const [axis, legend] = [{...config.axis, labelLimit: Math.min(240, 0.52 * width)}, {...config.legend, columns: Math.max(2, Math.floor(width / 180))}];
  return {...config, axis, legend};
}

// Log level 1 shows errors only: Vega-Lite also warns of conflicts that it resolves correctly.
async function draw(name, spec) {
  const options = {actions: false, renderer: "svg", logLevel: 1, config: configFor(byId(`chart-${name}`).clientWidth)};
  if (views[name]) views[name].finalize();
  const shown = await vegaEmbed(byId(`chart-${name}`), spec, options);
  views[name] = shown;
  shown.view.addEventListener("click", (event, item) => {
    if (item && item.datum && item.datum.id) openCase(item.datum.id, true);
  });
}

function selected() {
  const form = byId("filters");
  return Object.fromEntries(DATA.filters.map((axis) => [
    axis, new Set([...form.querySelectorAll(`input[name="${axis}"]:checked`)].map((box) => box.value)),
  ]));
}

function rowsOf(dataset) {
  const chosen = selected();
  return DATA.datasets[dataset].filter((row) => DATA.filters.every((axis) => chosen[axis].has(String(row[axis]))));
}

async function drawCharts() {
  for (const [name, {dataset, where, spec}] of Object.entries(DATA.charts)) {
    const fitting = rowsOf(dataset).filter((row) => Object.entries(where).every(([field, value]) => row[field] === value));
    const cases = [...new Set(fitting.map((row) => row.id))];
    const kept = new Set(cases.slice(0, DATA.most));
    const rows = fitting.filter((row) => kept.has(row.id));
    const figure = document.querySelector(`figure[data-chart="${name}"]`);
    figure.querySelector(".nothing").hidden = rows.length > 0;
    const more = figure.querySelector(".more");
    more.hidden = cases.length <= DATA.most;
    more.textContent = `${cases.length - kept.size} more cases are left out; the filters choose which are shown.`;
    figure.querySelector(".chart").hidden = rows.length === 0;
    if (rows.length > 0) await draw(name, withRows(spec, {[dataset]: rows}));
  }
  byId("shown").textContent = `${rowsOf("cases").length} of ${DATA.datasets.cases.length} cases shown`;
}

async function openCase(id, scroll) {
  const groups = DATA.rounds.of[id];
  if (!groups) return;
  byId("case").value = id;
  const rows = groups.flatMap((group, number) => group.map((seconds) => ({placement: number + 1, seconds})));
  const label = DATA.datasets.cases.find((row) => row.id === id).label;
  byId("rounds-caption").textContent = `${label}: ${rows.length} rounds at ${groups.length} placements`;
  await draw("rounds", withRows(DATA.rounds.spec, {rounds: rows}));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (scroll) byId("section-rounds").scrollIntoView({behavior: calm ? "auto" : "smooth"});
}

async function openSeries(place) {
  const {runs, values, shifts} = DATA.history.series[place];
  const rows = runs.map((run, number) => {
    const [name, commit] = DATA.history.runs[run];
    return {number: number + 1, run: name, commit, value: values[number], shift: shifts[number] || ""};
  });
  await draw("history", withRows(DATA.history.spec, {history: rows}));
}

async function drawAll() {
  if (byId("filters")) await drawCharts();
  if (byId("case")) await openCase(byId("case").value, false);
  if (byId("series")) await openSeries(byId("series").value);
  document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn || 0) + 1);
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").textContent = name === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-pressed", String(name === "dark"));
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function csv() {
  const rows = rowsOf("cases");
  const columns = Object.keys(DATA.datasets.cases[0]);
  const cell = (value) => (value === null ? "" : /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

const dark = matchMedia("(prefers-color-scheme: dark)");
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => { setTheme(dark.matches ? "dark" : "light"); drawAll(); });
byId("theme").addEventListener("click", () => { setTheme(theme() === "dark" ? "light" : "dark"); drawAll(); });
byId("csv").disabled = DATA.datasets.cases.length === 0;
byId("csv").addEventListener("click", () => download("cnnperf.csv", "text/csv", csv()));
byId("json").addEventListener("click", () => download("cnnperf.json", "application/json", JSON.stringify({...DATA.datasets, rounds: DATA.rounds.of, history: {runs: DATA.history.runs, series: DATA.history.series}})));
if (byId("filters")) {
  byId("filters").addEventListener("change", drawAll);
  byId("filters").addEventListener("reset", () => setTimeout(drawAll));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}
if (byId("case")) {
  const labels = Object.fromEntries(DATA.datasets.cases.map((row) => [row.id, row.label]));
  byId("case").append(...Object.keys(DATA.rounds.of).map((id) => new Option(labels[id], id)));
  byId("case").addEventListener("change", () => openCase(byId("case").value, false));
}
if (byId("series")) byId("series").addEventListener("change", () => openSeries(byId("series").value));
drawAll();
