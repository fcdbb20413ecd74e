"""The published run files read as they were read when they were published: frames, samples, comparisons, summaries.

Numbers are compared exactly, and words are not: they may become better.
"""

from needs import needs

needs("tabulate")

import re
from pathlib import Path

import pytest
from golden import golden

from cnnperf import compare_runs, load_runs, load_samples
from cnnperf.report.fusion import fusion_markdown
from cnnperf.report.markdown import run_markdown
from cnnperf.report.terminal import render_run
from cnnperf.report.view import RunView
from cnnperf.runs import read_runs

RESULTS = Path(__file__).parents[1] / "results"
FILES = sorted([*RESULTS.glob("*.json"), *RESULTS.glob("fusion/*.json")], key=str)
NAMED = {"-".join(file.relative_to(RESULTS).with_suffix("").parts): file for file in FILES}
NUMBER = re.compile(r"\d[\d.,]*")
"""A number as it is written for people."""


def csv(frame):
    return frame.to_csv(index=False, lineterminator="\n")


def numbers(lines):
    """Return the numbers of each line that has some."""
    found = [" ".join(NUMBER.findall(line)) for line in lines]
    return "\n".join(line for line in found if line) + "\n"


def condensed(samples):
    """Return a row a case and group: how many rounds, their sum and their last."""
    axes = list(samples.columns[: samples.columns.get_loc("group") + 1])
    grouped = samples.astype(dict.fromkeys(axes, "str")).groupby(axes, sort=False)["seconds"]
    return grouped.agg(["count", "sum", "last"]).reset_index()


@pytest.mark.parametrize("name", NAMED)
def test_the_frame_of_a_published_run_is_what_it_was(name):
    text = csv(load_runs(NAMED[name]))
    assert text == golden(f"results/{name}.frame.csv", text)


@pytest.mark.parametrize("file", [file for file in FILES if file.parent == RESULTS], ids=lambda file: file.stem)
def test_the_rounds_of_a_published_run_are_what_they_were(file):
    name = file.stem
    text = csv(condensed(load_samples(file)))
    assert text == golden(f"results/{name}.samples.csv", text)


@pytest.mark.parametrize("name", NAMED)
def test_the_numbers_of_its_summary_are_what_they_were(name):
    ((_, run),) = read_runs(NAMED[name])
    text = numbers(render_run(run))
    assert text == golden(f"results/{name}.summary.txt", text)


@pytest.mark.parametrize("name", NAMED)
def test_the_numbers_of_its_report_are_what_they_were(name):
    ((_, run),) = read_runs(NAMED[name])
    forms = RunView(run).forms
    parts = [run_markdown(name, run), fusion_markdown(forms) if forms else ""]
    text = numbers("\n".join(parts).splitlines())
    assert text == golden(f"results/{name}.markdown.txt", text)


def test_the_comparison_of_two_published_runs_is_what_it_was():
    base, candidate = (str(RESULTS / f"cpu-{kind}.json") for kind in ("synthetic", "photos"))
    frame = compare_runs(base, candidate, any_machine=True)
    text = csv(frame.drop(columns=["reason"]))
    assert text == golden("results/comparison.csv", text)
