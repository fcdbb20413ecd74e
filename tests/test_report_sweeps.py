"""Sweeps in the summary, the Markdown and the charts, from made runs."""

from needs import needs

needs("altair", "tabulate", "vl_convert")

import json

import pytest
from documents import benchmark, document, metric

from cnnperf.report.charts import charts_of
from cnnperf.report.markdown import run_markdown
from cnnperf.report.sweep_charts import sweep_charts, sweep_rows
from cnnperf.report.terminal import render
from cnnperf.report.view import RunView
from cnnperf.runs import parse_document

BATCHES = (1, 2, 4, 8)


def batches(latencies, half=0.01, **axes):
    cases = zip(BATCHES, latencies, strict=False)
    return [benchmark("resnet18", latency, half, batch=batch, **axes) for batch, latency in cases]


def both():
    return [*batches((1.0, 1.05, 1.2, 2.35)), *batches((1.5, 1.5, 0.9, 1.0), engine="compile")]


def section(*benchmarks, **facts):
    lines = render(document(*benchmarks, **facts))
    (begin,) = [number for number, line in enumerate(lines) if line.startswith("Sweeps")] or [len(lines)]
    end = lines.index("", begin) if "" in lines[begin:] else len(lines)
    return lines[begin:end]


def test_a_run_without_a_sweep_has_no_section():
    assert section(benchmark(batch=1), benchmark(batch=128)) == []


def test_batches_stand_below_one_another_with_what_doubling_brings():
    lines = section(*both())
    assert lines[:2] == [
        "Sweeps (gain: of images/s by doubling the batch, not paired)",
        "resnet18 forward cpu over batch",
    ]
    assert lines[2].split() == ["batch", "eager", "images/s", "eager", "gain", "compile", "images/s", "compile", "gain"]
    assert lines[3].split() == [
        "1",
        "1.00",
        "±1.0%",
        "+90%",
        "[+88,",
        "+93]",
        "0.667",
        "±1.0%",
        "+100%",
        "[+97,",
        "+103]",
    ]
    assert lines[6].split() == ["8", "3.40", "±1.0%", "-", "8.00", "±1.0%", "-"]


def test_knee_and_crossover_are_sentences():
    assert section(*both())[7:] == [
        "  eager: surely the knee at batch 4: doubling it brings +2.1% [+0.7, +3.6]",
        "  compile: no knee up to batch 8: nowhere does doubling surely bring under 5.0%",
        "  cpu compile against eager: faster from batch 3 [2, 3] on",
    ]


def test_the_step_of_the_run_decides_about_the_knee():
    assert "surely the knee at batch 2: doubling it brings +75%" in "\n".join(section(*both(), step=0.8))


def test_a_knee_that_is_not_sure_says_so():
    lines = section(*batches((1.0, 1.95, 3.85), half=0.05))
    assert any(line.startswith("  eager: perhaps the knee at batch 1: ") for line in lines)


@pytest.mark.parametrize(
    ("latencies", "told"),
    [
        ((0.5, 0.5, 0.5, 0.5), "faster at every batch that was measured, 1 to 8"),
        ((2.0, 2.0, 2.0, 4.0), "still slower at batch 8, the largest of both"),
        ((2.0, 2.0, 2.0, 2.36), "no difference is sure at batch 8, the largest of both"),
        ((0.5, 2.0, 0.5, 0.5), "faster from batch 3 [2, 3] on; it was faster at batch 1 too, and slower after"),
    ],
)
def test_every_answer_about_a_crossover_has_its_words(latencies, told):
    cases = [*batches((1.0, 1.05, 1.2, 2.35)), *batches(latencies, engine="compile")]
    words = " ".join(" ".join(section(*cases)).split())
    assert words.endswith(f"cpu compile against eager: {told}")


def test_the_gpu_is_compared_with_the_cpu_at_the_batches_of_both():
    cases = [*batches((1.0, 2.0, 4.0, 8.0)), *batches((3.0, 3.0, 3.0, 3.0), device="cuda")]
    assert "  eager, cuda against cpu: faster from batch 3 [2, 4] on" in section(*cases)


def test_the_largest_batch_says_how_it_is_known():
    cases = batches((1.0, 1.1, 1.2, 1.3))
    cases[-1]["extra_info"]["metrics"]["largest_batch"] = metric("largest_batch", 64) | {"low": 64, "high": 65}
    assert "  eager: largest batch that fits, foreseen by counted bytes: 64 (up to 65 is not known)" in section(*cases)


def test_threads_have_their_efficiency():
    cases = [benchmark(latency=latency, half=0.01, threads=threads) for threads, latency in ((1, 1e-3), (2, 0.6e-3))]
    lines = section(*cases)
    assert lines[0] == "Sweeps (efficiency: images/s over one thread's times the threads, in a sweep side by side)"
    assert lines[-1].split() == ["2", "107k", "±1.0%", "83%", "[82,", "85]"]


@pytest.mark.parametrize("axis", ["image_size", "width"])
def test_sizes_have_latency_memory_and_rate(axis):
    lines = section(*(benchmark("resnet18", size * 1e-3, **{axis: size}) for size in (16, 32)))
    assert lines[1] == f"resnet18 forward cpu batch 64 over {axis}"
    assert "12.5 MiB" in lines[-1]


def test_markdown_has_the_sentences():
    text = run_markdown("x", parse_document(document(*both())))
    assert "- resnet18 forward cpu over batch: cpu compile against eager: faster from batch 3 \\[2, 3\\] on" in text


def test_a_chart_a_sweep_with_a_line_an_engine_a_knee_and_a_crossover():
    run = parse_document(document(*both(), *batches((1.0, 1.0, 1.0), phase="train")))
    charts = {chart.name: chart for chart in sweep_charts(run)}
    assert list(charts) == ["sweep-batch-resnet18-forward", "sweep-batch-resnet18-train"]
    chart = charts["sweep-batch-resnet18-forward"]
    spec = json.dumps(chart.spec("light"))
    assert "faster from batch 3 [2, 3] on" in spec
    rows = [row for row in chart.rows if row["sweep"] == chart.name]
    assert {row["series"] for row in rows} == {"cpu eager", "cpu compile"}
    assert [(row["series"], row["at"]) for row in rows if row["knee"]] == [("cpu eager", 4)]
    assert set(charts) <= {chart.name for chart in charts_of(RunView(run))}


def test_efficiency_is_drawn_with_the_ideal_line():
    cases = [benchmark("pkg:<img src=x>", latency, threads=threads) for threads, latency in ((1, 1e-3), (2, 0.6e-3))]
    (chart,) = sweep_charts(parse_document(document(*cases)))
    assert chart.name == "sweep-threads-pkg-img-src-x-forward"
    assert '"ideal": 1.0' in json.dumps(chart.spec("dark"))
    assert "Efficiency of CPU threads" in chart.svg("dark")


def test_lines_of_other_batches_are_named_by_what_tells_them_apart():
    cases = [benchmark(latency=1e-3, threads=threads, batch=batch) for threads in (1, 2) for batch in (4, 8)]
    rows = sweep_rows(parse_document(document(*cases)))
    assert {row["series"] for row in rows} == {"cpu eager, batch 4", "cpu eager, batch 8"}
