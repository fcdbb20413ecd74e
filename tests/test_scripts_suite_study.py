"""The tables of the study of the default suite, from made runs that agree and disagree as planted."""

import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import suite_study_tables

    yield suite_study_tables.tables
    sys.modules.pop("suite_study_tables")


def row(run, value, half, verdict, kind="shown", numerator="lenet5 eager", denominator="lenet5 compile"):
    facts = {"run": run, "commit": "abc", "load": 0, "wall": 120.0, "share": 0.6, "kind": kind, "phase": "forward"}
    sides = {"numerator": numerator, "denominator": denominator, "value": value, "cycles": 30, "paired": True}
    return {**facts, **sides, "low": value / (1 + half), "high": value * (1 + half), "verdict": verdict}


def figures(tables, tmp_path, *rows, name="quiet"):
    """Return the figures of a file by their description."""
    path = tmp_path / f"{name}.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    (table,) = tables([path])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {first: rest for first, *rest in cells}


def test_runs_that_agree_are_neither_disjoint_nor_contradictory(tables, tmp_path):
    found = figures(tables, tmp_path, *(row(run, 1.3 + 0.001 * run, 0.05, "above") for run in range(3)))
    assert found["pairs of intervals that are disjoint"] == ["0 of 3 (0.0%)"]
    assert found["pairs of words that contradict each other"] == ["0 of 3 (0.0%)"]
    assert found["differences of two runs beyond their interval"] == ["0 of 3 (0.0%)"]
    assert found["half-width, median"] == ["4.9%"]
    assert found["LeNets: engine decided"] == ["3 of 3 runs (100% of the ratios)"]


def test_a_run_that_contradicts_the_others_is_counted_with_each_of_them(tables, tmp_path):
    rows = [row(0, 1.3, 0.05, "above"), row(1, 1.3, 0.05, "above"), row(2, 0.8, 0.05, "below")]
    found = figures(tables, tmp_path, *rows)
    assert found["pairs of intervals that are disjoint"] == ["2 of 3 (66.7%)"]
    assert found["pairs of words that contradict each other"] == ["2 of 3 (66.7%)"]


def test_a_difference_beyond_the_interval_of_the_difference_need_not_be_disjoint(tables, tmp_path):
    found = figures(tables, tmp_path, row(0, 1.0, 0.05, "unsure"), row(1, 1.08, 0.05, "unsure"))
    assert found["pairs of intervals that are disjoint"] == ["0 of 1 (0.0%)"]
    assert found["differences of two runs beyond their interval"] == ["1 of 1 (100.0%)"]


def test_twins_show_how_often_an_interval_misses_and_a_word_is_false(tables, tmp_path):
    twin = {"kind": "other", "numerator": "lenet5_again eager", "denominator": "lenet5 eager"}
    rows = [row(run, 1.3, 0.05, "above") for run in range(2)]
    rows += [row(0, 1.01, 0.05, "unsure", **twin), row(1, 1.2, 0.05, "above", **twin)]
    found = figures(tables, tmp_path, *rows)
    assert found["A/A ratios outside their 95 % interval"] == ["1 of 2 (50.0%)"]
    assert found["runs with a false word about A/A"] == ["1 of 2"]


def test_planted_slowdowns_are_counted_by_network(tables, tmp_path):
    planted = {"kind": "other", "denominator": "planted_networks:Same eager"}
    rows = [
        row(run, 1.05, 0.02, verdict, numerator="slow", **planted) for run, verdict in enumerate(("above", "unsure"))
    ]
    found = figures(tables, tmp_path, *rows, name="planted")
    assert found["slow"][-1] == "1 of 2 (50%)"
