"""The page in a real browser: offline, without an error, filtered, drawn, readable, and no wider than a phone."""

from needs import needs

needs("altair", "axe_playwright_python", "jinja2", "playwright", "vl_convert")

import json
import os
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from documents import benchmark, document, finding, metric
from playwright.sync_api import sync_playwright

from cnnperf.report import drawing
from cnnperf.report.html import page_of
from cnnperf.runs import parse_document
from cnnperf.runs.series import changes_of, series_of
from cnnperf.testing import MadeDevices, MadeHistory

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
PARTS = ("parameter_memory", "gradient_memory", "optimizer_memory", "activation_memory", "other_memory")
NASTY = "pkg:<img src=x onerror=alert(1)>&\"'`$(rm)|</script>"


def case(architecture="lenet5", latency=1e-3, **axes):
    batch = axes.get("batch", 64)
    values = {
        "latency": metric("latency", latency, 0.02, 30),
        "throughput": metric("throughput", batch / latency, 0.02),
        "flop": metric("flop", 1e9),
        "traffic": metric("traffic", 1e8),
        "flop_rate": metric("flop_rate", 1e9 / latency, 0.02),
        "peak_memory": metric("peak_memory", 10 * 2**20),
        **{part: metric(part, 2 * 2**20) for part in PARTS},
    }
    if axes.get("engine") == "compile":
        values["break_even"] = metric("break_even", 400)
    groups = [[latency * (1 + 0.01 * index) for index in range(5)] for _ in range(3)]
    return benchmark(architecture, latency, metrics=values, groups=groups, **axes)


def whole():
    cases = [
        case(name, latency * (0.8 if engine == "compile" else 1.0), engine=engine, phase=phase)
        for name, latency in (("resnet18", 0.04), ("se_resnet18", 0.05), ("se_resnet18_fused", 0.042))
        for phase in ("forward", "train")
        for engine in ("eager", "compile")
    ]
    cases += [case("resnet18", 0.001, device="cuda", batch=64), case("resnet18", 0.002, device="cuda", batch=8)]
    cases += [case("resnet18", 0.001, device="cpu", batch=8), case(NASTY, 0.01)]
    swept = [{"batch": batch, "engine": engine} for batch in (1, 2, 4) for engine in ("eager", "compile")]
    cases += [case("resnet18", 0.01 * axes["batch"] ** 0.5, **axes) for axes in swept]
    cases[0]["extra_info"]["findings"] = [finding()]
    return cases


def history():
    runs = []
    for number in range(20):
        found = document(case(latency=1e-3 * (1.2 if number >= 12 else 1.0) * (1 + 0.001 * (number % 3))))
        found |= {"datetime": f"2026-05-{number + 1:02}T00:00:00+00:00", "commit_info": {"id": f"{number:02}" * 20}}
        runs.append((f"{number:04}", parse_document(found)))
    series = series_of(runs, "latency")
    return series, changes_of(series, 0.025)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if "CI" in os.environ:
            pytest.fail("there is no browser here; install Debian's chromium")
        pytest.skip("needs a browser: install Debian's chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of("0001_run", parse_document(document(*whole())), *history()), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser, file):
    """Open the page as a double-click does, without a network; note what it asks for and complains about."""
    contexts = []

    def opened(path=file, width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        return page

    yield opened
    for context in contexts:
        context.close()


def redrawn(page, act):
    before = page.get_attribute("html", "data-drawn")
    act()
    page.wait_for_function(f"document.documentElement.dataset.drawn !== '{before}'")


def marks(page, name):
    return page.locator(f"#chart-{name} svg .mark-symbol path, #chart-{name} svg .mark-rect path").count()


def test_the_page_asks_for_nothing_and_complains_about_nothing(open_page, file):
    page = open_page()
    assert [url for url in page.requests if not url.startswith("data:")] == [file.as_uri()]
    assert page.errors == []


def test_every_chart_has_marks(open_page):
    page = open_page()
    charts = page.locator("figure[data-chart]").evaluate_all("all => all.map(one => one.dataset.chart)")
    assert {"latency-train", "throughput-forward", "memory-train", "engine-train", "cost-train", "roofline"} <= set(
        charts
    )
    assert {"device-forward", "break_even-train", "recovery-train", "sweep-batch-resnet18-forward"} <= set(charts)
    assert [name for name in charts if marks(page, name) == 0] == []
    assert page.locator("#chart-history svg .mark-symbol path").count() >= 20
    assert page.locator("#chart-rounds svg .mark-rect path").count() == 15


def test_filters_change_what_is_shown_and_come_back(open_page):
    page = open_page()
    before = marks(page, "latency-train")
    redrawn(page, lambda: page.uncheck("input[value=compile]"))
    assert marks(page, "latency-train") < before
    assert page.locator("figure[data-chart=engine-train] .nothing").is_visible()
    assert "of 22 cases shown" in page.inner_text("#shown")
    redrawn(page, lambda: page.click("button[type=reset]"))
    assert marks(page, "latency-train") == before
    assert page.inner_text("#shown") == "22 of 22 cases shown"


def test_a_click_on_a_mark_opens_its_rounds(open_page):
    page = open_page()
    page.locator("#chart-latency-train svg .mark-symbol.role-mark path").last.click(force=True)
    page.wait_for_function("document.getElementById('rounds-caption').textContent.includes(' train ')")


def test_the_download_is_the_table_that_is_shown(open_page):
    page = open_page()
    redrawn(page, lambda: page.uncheck("input[value=compile]"))
    with page.expect_download() as waiting:
        page.click("#csv")
    lines = waiting.value.path().read_text().splitlines()
    assert lines[0].startswith("id,label,architecture,phase")
    assert len(lines) == 1 + 13
    with page.expect_download() as waiting:
        page.click("#json")
    assert len(json.loads(waiting.value.path().read_text())["cases"]) == 22


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_no_wider_than_the_screen(open_page, width):
    page = open_page(width=width)
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_and_the_button(open_page):
    page = open_page(scheme="dark")
    assert page.get_attribute("html", "data-theme") == "dark"
    redrawn(page, lambda: page.click("#theme"))
    assert page.get_attribute("html", "data-theme") == "light"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_scan_for_accessibility_finds_nothing_serious(open_page, scheme):
    page = open_page(scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in serious] == []


def test_everything_is_reached_with_the_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName.toLowerCase()"))
    assert {"csv", "json", "theme", "input", "button", "case", "series", "summary"} <= reached


def test_names_with_the_signs_of_html_and_shells_are_only_text(open_page):
    page = open_page()
    assert page.locator("img").count() == 0
    assert NASTY in page.inner_text("#case")
    assert page.errors == []


def test_a_long_history_is_small_and_draws_the_series_that_is_chosen(open_page, tmp_path):
    runs = [(f"{n:04}", parse_document(MadeHistory(cases=3).document(n))) for n in range(300)]
    series = series_of(runs, "latency")
    text = page_of("0299", runs[-1][1], series, [])
    empty = page_of("0299", runs[-1][1])
    assert len(text) - len(empty) < 300 * 60 + 3 * 300 * 30
    path = tmp_path / "long.html"
    path.write_text(text, encoding="utf-8")
    page = open_page(path)
    assert page.locator("#chart-history svg .mark-symbol path").count() == 300
    page.select_option("#series", "2")
    page.wait_for_function("document.querySelectorAll('#chart-history svg .mark-symbol path').length === 300")
    assert page.errors == []


def test_a_chart_of_more_cases_than_can_be_read_says_how_many_it_leaves_out(open_page, tmp_path):
    path = tmp_path / "many.html"
    path.write_text(page_of("x", parse_document(MadeHistory(cases=900, rounds=3).document(0))), encoding="utf-8")
    page = open_page(path)
    more = page.locator("figure[data-chart=latency-forward] .more")
    assert more.inner_text() == "150 more cases are left out; the filters choose which are shown."
    redrawn(page, lambda: page.uncheck("input[value=network1]"))
    assert more.inner_text().startswith("149 more cases")
    assert page.locator("#chart-latency-forward svg .mark-symbol.role-mark path").count() == 150
    assert page.locator(".filters").bounding_box()["height"] < 400


def test_a_level_shift_is_told_with_its_commit(open_page):
    text = open_page().inner_text("section[aria-labelledby=section-history]")
    assert "+20.0%" in text
    assert "1212121212" in text


def test_a_run_in_which_every_case_failed_is_a_page_that_says_why(open_page, tmp_path):
    path = tmp_path / "empty.html"
    missing = [{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]
    path.write_text(page_of("x", parse_document(document(not_measured=missing))), encoding="utf-8")
    page = open_page(path)
    assert page.inner_text("h1") == "No case was measured: no CUDA device."
    assert page.errors == []
    assert page.locator("#csv").is_disabled()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_tables_of_devices_are_read_in_rows(open_page, tmp_path, width):
    path = tmp_path / "devices.html"
    run = parse_document(MadeDevices(phases=("forward", "train")).document())
    path.write_text(page_of("0001_run", run), encoding="utf-8")
    page = open_page(path, width)
    names = page.locator("[aria-labelledby=section-devices] tbody th")
    assert names.count() > 0
    assert min(name.bounding_box()["width"] for name in names.all()) > 100  # and not a column of single letters
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.errors == []


def test_the_scripts_of_the_page_are_bundled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = drawing.bundle()
    monkeypatch.delattr(drawing.vl_convert, "javascript_bundle")
    assert drawing.bundle() == first
    assert len(first) > 100_000
