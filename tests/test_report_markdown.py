"""Markdown: golden texts, names that are only text, and a size that a comment may have."""

from needs import needs

needs("tabulate")

import math

import pytest
from documents import benchmark, document, finding
from golden import golden

from cnnperf.records.case import Case
from cnnperf.report.layout import escape
from cnnperf.report.markdown import MOST_BYTES, capped, comparison_markdown, run_markdown
from cnnperf.runs import parse_document
from cnnperf.runs.verdicts import CaseVerdict, Comparison, CounterChange
from cnnperf.stats.sequential import Estimate, Rule

SLOWER = Estimate(math.log(1.1), math.log(1.08), math.log(1.12), 32, "re-instantiation", math.log(1.03))
SAME = Estimate(0.0, math.log(0.99), math.log(1.01), 16, "re-instantiation", math.log(1.03))


def comparison(*cases, **how):
    return Comparison("main (aaaaaaaaaa)", "work tree (bbbbbbbbbb)", Rule(), cases, counted=2, seconds=12.0, **how)


def two_cases(**how):
    slower = CaseVerdict(Case("resnet18", "train", batch=4), "slower", "found and confirmed", SLOWER, 0.1, 0.11)
    same = CaseVerdict(Case("lenet5", batch=128), "same", "excluded", SAME, 1e-3, 1e-3)
    return comparison(same, slower, **how)


def test_a_comparison_leads_with_the_answer_and_folds_what_did_not_change():
    counter = CounterChange(Case("resnet18", "train", batch=4), "graph_breaks", 0, 1, "worse")
    text = comparison_markdown(two_cases(counters=(counter,)))
    assert text == golden("comparison.md", text)
    folded = text.partition("<details><summary>1 cases with the same time</summary>")[2]
    assert "lenet5 forward cpu eager batch 128" in folded
    assert "19 times out of 20" in text.partition("</details>")[2]


def test_only_the_facts_of_the_environment_that_differ_are_told():
    text = comparison_markdown(two_cases(environment={"torch": ("2.12.0", "2.13.0")}))
    assert "| torch | 2.12.0 | 2.13.0 |" in " ".join(text.split())


def test_ten_thousand_cases_fit_into_a_comment_with_a_count_of_what_is_left_out():
    cases = [CaseVerdict(Case(f"network{number}"), "unsure", "too few", SAME, 1.0, 1.0) for number in range(10_000)]
    text = comparison_markdown(comparison(*cases))
    assert len(text.encode()) <= MOST_BYTES
    shown = text.count("| unsure")
    assert f"{10_000 - shown} more rows are left out." in text
    assert shown > 100


def test_a_table_without_any_room_is_counted():
    assert capped([(("a",), [("x" * 100,)])], most=80) == "1 rows are left out.\n"


@pytest.mark.parametrize("name", ["<img src=x>", "a|b", "`rm -rf`", "[x](javascript:1)", "**bold**", "two\nlines"])
def test_a_name_is_only_text(name):
    escaped = escape(name)
    assert "<" not in escaped
    assert "\n" not in escaped
    assert all(f"\\{sign}" in escaped for sign in "|`*[]" if sign in name)


def test_a_run_leads_with_its_headline_and_folds_its_doubts():
    run = parse_document(document(benchmark(findings=[finding()]), benchmark("resnet18", 0.1)))
    text = run_markdown("0001_a", run)
    assert text == golden("run.md", text)
    assert text.startswith("### 2 cases of 2 networks measured on cpu.\n\n- 1 case with something to doubt.")
    assert "1.00 ms ±2.0%" in text
    assert "<details><summary>What to doubt</summary>" in text
    assert f"{escape('0001_a')}, commit 0123456789, 2026-05-04 03:02 UTC" in text


def test_a_run_without_a_case_says_why():
    run = parse_document(document(not_measured=[{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]))
    assert run_markdown("x", run).startswith("### No case was measured: no CUDA device.")


def test_values_that_are_no_numbers_are_left_out():
    run = parse_document(document(benchmark(metrics={"latency": {"value": None}, "throughput": {"value": None}})))
    (row,) = [line for line in run_markdown("x", run).splitlines() if line.startswith("| lenet5")]
    assert [cell.strip() for cell in row.split("|")[2:-2]] == ["-", "-", "-"]
