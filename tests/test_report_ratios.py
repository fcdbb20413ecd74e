"""How ratios are written, and the sentences that say what the intervals, words and marks beside them mean."""

from needs import needs

needs("altair", "jinja2", "tabulate", "vl_convert")

import json
import math
import re

import pytest
from documents import benchmark, document, side_by_side

from cnnperf.cli import main
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.report.cases import ratio_text, share_text, unpaired_text
from cnnperf.report.charts import charts_of
from cnnperf.report.figures import figures
from cnnperf.report.headline import headline
from cnnperf.report.html import page_of
from cnnperf.report.markdown import run_markdown
from cnnperf.report.notes import INTERVAL, NOT_PAIRED, ratio_notes, words_note
from cnnperf.report.terminal import render
from cnnperf.report.view import RunView
from cnnperf.runs import parse_document
from cnnperf.runs.pairs import RECOVERIES, Share
from cnnperf.runs.ratios import Ratio

EAGER, COMPILED = Case("lenet5"), Case("lenet5", engine="compile")
NAMES = ("resnet18", "se_resnet18", "se_resnet18_fused")


def engines(**ratio):
    """Return an eager and a compiled case of one block, with this ratio."""
    return side_by_side(benchmark(latency=2e-3), benchmark(engine="compile"), **ratio)


def view(*benchmarks, **facts):
    return RunView(parse_document(document(*benchmarks, **facts)))


def flat(lines):
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("verdict", "paired", "text"),
    [
        ("above", True, "1.20x [1.10, 1.30]"),
        ("below", False, "~1.20x [1.10, 1.30]"),
        ("same", True, "same [1.10, 1.30]"),
        ("unsure", True, "unsure [1.10, 1.30]"),
        ("unsure", False, "~unsure [1.10, 1.30]"),
    ],
)
def test_a_ratio_is_written_as_its_value_or_its_word_with_a_mark_if_it_is_not_paired(verdict, paired, text):
    assert ratio_text(Ratio(EAGER, COMPILED, Value(1.2, 1.1, 1.3), paired, verdict)) == text


def test_a_ratio_without_an_interval_has_no_brackets_and_one_without_a_value_is_a_dash():
    assert ratio_text(Ratio(EAGER, COMPILED, Value(1.2), paired=True)) == "1.20x"
    assert ratio_text(Ratio(EAGER, COMPILED, Value(math.nan))) == unpaired_text(Value(math.nan)) == "-"


@pytest.mark.parametrize(
    ("share", "paired", "text"),
    [
        (Value(0.4, 0.35, 0.45), True, "40% [35%, 45%]"),
        (Value(0.4, 0.35, 0.45), False, "~40% [35%, 45%]"),
        (Value(math.nan), False, "-"),
    ],
)
def test_a_share_has_the_mark_too(share, paired, text):
    assert share_text(Share(RECOVERIES[0], Case(NAMES[2]), share, paired)) == text


def test_a_paired_run_has_no_mark_and_no_note_about_it():
    shown = render(document(*engines()))
    assert "2.00x [1.94, 2.06]" in flat(shown)
    assert INTERVAL in flat(shown)
    assert "~" not in flat(shown)


def test_of_many_ratios_one_whose_interval_just_excludes_1_is_unsure_and_the_notes_say_why():
    ratio = {"value": 1.05, "low": 1.012, "high": 1.089}
    assert "1.05x [1.01, 1.09]" in flat(render(document(*engines(**ratio))))
    many = [benchmark(batch=batch, engine=engine) for batch in (1, 2, 4, 8, 16) for engine in ("eager", "compile")]
    shown = flat(render(document(*side_by_side(*many, **ratio))))
    assert shown.count("unsure [1.01, 1.09]") == 5
    assert "else unsure, even if [ ] excludes 1." in shown


def test_a_ratio_that_surely_is_near_1_is_the_same():
    shown = flat(render(document(*engines(value=1.001, low=0.998, high=1.004))))
    assert "same [1.00, 1.00]" in shown
    assert "same if it surely is within 2% of 1" in shown


def test_the_notes_name_the_smallest_difference_of_the_run():
    assert words_note() in ratio_notes(view(*engines()))
    assert "surely is within 5% of 1" in " ".join(ratio_notes(view(*engines(), smallest_difference=0.05)))


def test_the_notes_speak_of_one_interval_of_all_words_together_and_of_the_mark():
    paired, unpaired = (ratio_notes(view(*cases)) for cases in (engines(), [benchmark(), benchmark(engine="compile")]))
    assert paired == [INTERVAL, words_note()]
    assert unpaired == [*paired, NOT_PAIRED]
    assert "95% interval of one ratio" in INTERVAL
    assert "All of these are true together in 19 of 20 runs" in words_note()


def test_a_run_without_ratios_has_no_notes():
    assert ratio_notes(view(benchmark(), benchmark("resnet18"))) == []
    assert INTERVAL not in flat(render(document(benchmark())))


def test_a_ratio_without_a_value_needs_no_notes():
    assert ratio_notes(view(benchmark(), benchmark(engine="compile", metrics={}))) == []


def test_a_ratio_that_no_table_shows_needs_no_note():
    textbook, compiled, fused = (
        benchmark(name, phase="train", engine=engine)
        for name, engine in ((NAMES[1], "eager"), (NAMES[1], "compile"), (NAMES[2], "eager"))
    )
    ratio = {"value": 1.2, "low": 1.1, "high": 1.3, "rounds": 30}
    for case, axes in ((textbook, {}), (compiled, {"engine": "eager"}), (fused, None)):
        over = [] if axes is None else [{"axes": {"architecture": NAMES[2], **axes}, "ratio": ratio}]
        case["extra_info"] |= {"block": "block", "ratios": over}
    whole = view(textbook, compiled, fused)
    assert any(not each.paired for each in whole.ratios.values())
    assert [each.paired for each in whole.shown_ratios] == [True, True]
    assert NOT_PAIRED not in ratio_notes(whole)


def test_a_sweep_of_one_engine_has_intervals_and_no_words():
    assert ratio_notes(view(*(benchmark(batch=batch) for batch in (1, 2, 4)))) == [INTERVAL]


def fused():
    names = ("part:se", "fused:part:se")
    cases = [benchmark(name, 2e-3 if name == "part:se" else 1e-3, image_size=16, width=64) for name in names]
    return side_by_side(*cases)


@pytest.mark.parametrize(
    ("cases", "title"),
    [
        (side_by_side(benchmark("resnet18", 0.1), benchmark("se_resnet18", 0.2)), "What it costs"),
        (fused(), "Squeeze-and-Excitation alone"),
        ([benchmark(latency=0.1), benchmark(device="cuda")], "CUDA against CPU"),
    ],
)
def test_the_summary_has_the_notes_once_whichever_table_has_the_ratios(cases, title):
    shown = flat(render(document(*cases)))
    assert title in shown
    assert "x [" in shown
    assert shown.count(INTERVAL) == shown.count(words_note()) == 1


def test_markdown_has_the_notes_once_and_before_its_tables():
    text = run_markdown("0001_a", parse_document(document(*engines()))).replace("\\", "")
    assert text.count(INTERVAL) == text.count(words_note()) == 1
    assert text.index(words_note()) < text.index("| case ")


def test_markdown_of_the_fusion_benchmark_alone_has_no_ratios_to_explain():
    assert "interval of one ratio" not in run_markdown("0001_a", parse_document(document(*fused())))


def test_figures_of_several_runs_have_the_notes_once_at_their_end():
    runs = [(name, parse_document(document(*engines()))) for name in ("a", "b")]
    text = figures(runs).replace("\\", "")
    assert text.endswith(f"{INTERVAL} {words_note()}")
    assert text.count(INTERVAL) == 1
    assert "interval of one ratio" not in figures([("a", parse_document(document(benchmark())))])


def test_the_page_has_the_notes_once_above_its_first_chart_of_ratios():
    cases = side_by_side(*(benchmark(name, engine=engine) for name in NAMES for engine in ("eager", "compile")))
    page = page_of("0001_a", parse_document(document(*cases)))
    assert page.count(words_note()) == 1
    assert page.index("Compiled against eager") < page.index(words_note()) < page.index("What a part costs")


def test_two_runs_of_one_commit_are_not_paired(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(document(benchmark())))
    assert main(["repeat", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    shown = flat(capsys.readouterr().out.splitlines())
    assert "~unsure [0.97, 1.03]" in shown
    assert NOT_PAIRED in shown


def rows_of(*benchmarks):
    return {row["row"] + f" {row['kind']}": row for row in view(*benchmarks).ratio_rows}


@pytest.mark.parametrize(
    ("ratio", "seen"),
    [
        ((2.0, 1.9, 2.1), "difference seen"),
        ((1.001, 0.998, 1.004), "same"),
        ((1.05, 0.9, 1.2), "unsure"),
    ],
)
def test_a_row_of_the_charts_says_what_is_seen_and_whether_the_ratio_is_paired(ratio, seen):
    (row,) = rows_of(*engines(**dict(zip(("value", "low", "high"), ratio, strict=True)))).values()
    assert (row["seen"], row["paired"]) == (seen, "paired")


def test_a_row_of_a_ratio_that_is_not_paired_says_so_and_has_the_mark_in_its_text():
    (row,) = rows_of(benchmark(latency=2e-3), benchmark(engine="compile")).values()
    assert row["paired"] == "not paired"
    assert row["told"] == "~2.00x [1.94, 2.06]"


@pytest.mark.parametrize(("made", "paired"), [(side_by_side, "paired"), (lambda *cases: cases, "not paired")])
def test_the_row_of_a_share_says_whether_it_is_paired(made, paired):
    cases = [benchmark(name, latency, 0.001) for name, latency in zip(NAMES, (1.0, 1.2, 1.1), strict=True)]
    row = rows_of(*made(*cases))["se_resnet18_fused, batch 64 recovery"]
    assert (row["seen"], row["paired"]) == ("difference seen", paired)


def encodings(*benchmarks):
    """Return the encodings of the interval and of the mark of the chart of engines."""
    (chart,) = [chart for chart in charts_of(view(*benchmarks)) if chart.name == "engine-forward"]
    *_, line, point = chart.spec()["layer"]
    return line["encoding"], point["encoding"]


def test_a_chart_dashes_the_intervals_of_ratios_that_are_not_paired():
    line, _ = encodings(benchmark(), benchmark(engine="compile"))
    assert line["strokeDash"]["scale"] == {"domain": ["not paired"], "range": [[3, 3]]}
    line, _ = encodings(*engines())
    assert "strokeDash" not in line


def test_a_chart_with_ratios_of_both_kinds_has_both_in_its_legend():
    alone = [benchmark("resnet18"), benchmark("resnet18", engine="compile")]
    line, _ = encodings(*engines(), *alone)
    assert line["strokeDash"]["scale"]["domain"] == ["paired", "not paired"]


def test_the_legend_of_a_chart_has_the_words_of_its_marks():
    _, point = encodings(*engines(value=1.001, low=0.998, high=1.004))
    assert point["shape"]["scale"] == {"domain": ["same"], "range": ["square"]}
    _, point = encodings(*engines(value=1.05, low=0.9, high=1.2))
    assert point["opacity"]["scale"]["domain"] == ["unsure"]
    _, point = encodings(*engines())
    assert point["shape"]["legend"] is None


def test_of_three_words_in_one_chart_only_unsure_is_pale():
    cases = []
    for name, low in (("lenet5", 1.9), ("resnet18", 0.997), ("plain_stack", 0.8)):
        both = benchmark(name), benchmark(name, engine="compile")
        high = 1 / low if low < 1 else 2.1
        cases += side_by_side(*both, value=math.sqrt(low * high), low=low, high=high)
    (chart,) = [chart for chart in charts_of(view(*cases)) if chart.name == "engine-forward"]
    drawn = re.findall(r'aria-roledescription="point"[^>]*opacity="([\d.]+)"', chart.svg())
    assert drawn == ["1", "1", "0.35"]


def sentence(start, *benchmarks):
    (found,) = [each for each in headline(view(*benchmarks)) if each.startswith(start)]
    return found


def test_the_headline_counts_the_verdicts_on_compiling():
    ratios = {"lenet5": (2.0, 1.9, 2.1), "resnet18": (0.5, 0.4, 0.6), "plain_stack": (1.0, 0.998, 1.002)}
    ratios |= {"residual_stack": (1.05, 0.9, 1.2), "se_resnet18": (1.1, 0.9, 1.3)}
    cases = []
    for name, (value, low, high) in ratios.items():
        both = benchmark(name, batch=len(cases) + 1), benchmark(name, batch=len(cases) + 1, engine="compile")
        cases += side_by_side(*both, value=value, low=low, high=high)
    assert sentence("Compiling", *cases) == (
        "Compiling is surely faster in 1 of 5 cases and slower in 1; 1 the same, 2 unsure."
    )


def test_the_headline_leaves_out_verdicts_that_no_case_has():
    assert sentence("Compiling", *engines()) == "Compiling is surely faster in 1 of 1 case and slower in 0."
    without = side_by_side(benchmark(), benchmark(engine="compile"), value=2.0)
    assert sentence("Compiling", *without).endswith("and slower in 0; 1 without an interval.")


def test_the_headline_is_not_sure_of_ratios_that_are_not_paired():
    cases = [benchmark(latency=2e-3), benchmark(engine="compile")]
    assert sentence("Compiling", *cases) == "Compiling seems faster in 1 of 1 case and slower in 0 (not paired)."


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ((1.2, 1.1, 1.3), "se_resnet18 is slower than resnet18, 1.20x [1.10, 1.30]"),
        ((0.8, 0.7, 0.9), "se_resnet18 is faster than resnet18, 0.80x [0.70, 0.90]"),
        ((1.001, 0.998, 1.004), "se_resnet18 is as fast as resnet18, same [1.00, 1.00]"),
        ((1.1, 0.9, 1.3), "se_resnet18 against resnet18, unsure [0.90, 1.30]"),
    ],
)
def test_the_headline_says_in_words_what_a_part_costs(ratio, said):
    networks = (benchmark("resnet18", phase="train"), benchmark("se_resnet18", phase="train"))
    cases = side_by_side(*networks, **dict(zip(("value", "low", "high"), ratio, strict=True)))
    assert sentence("Squeeze", *cases) == f"Squeeze-and-Excitation: {said} (train, eager)."


def test_the_headline_says_nothing_about_a_cost_without_a_ratio():
    cases = [benchmark("resnet18"), benchmark("se_resnet18", metrics={})]
    assert not any(each.startswith("Squeeze") for each in headline(view(*cases)))


def test_the_axis_of_ratios_has_numbers_on_both_sides_of_1():
    cases = engines(value=1.3, low=0.8, high=1.7)
    (chart,) = [chart for chart in charts_of(view(*cases)) if chart.name == "engine-forward"]
    numbers = [float(text) for text in re.findall(r"<text[^>]*>(\d\.\d\d)</text>", chart.svg())]
    assert sum(number > 1 for number in numbers) >= 3
    assert any(number < 1 for number in numbers)
