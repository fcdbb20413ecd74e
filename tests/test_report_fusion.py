"""The table of the fusion benchmark, in the terminal, as Markdown and from damaged files."""

import copy
import json

import pytest
from documents import document

from cnnperf.cli import main
from cnnperf.errors import RunFileError
from cnnperf.measure.parts import Cell, floor_passes
from cnnperf.report import render

RECORD = {
    "part": "tail",
    "trains": True,
    "shape": [32, 64, 16, 16],
    "layout": "channels_last",
    "precision": "fp32",
    "seconds": {
        form: {"value": s, "low": s, "high": s} for form, s in (("eager", 4e-3), ("compile", 6e-3), ("fused", 2e-3))
    },
    "over_fused": {
        "eager": {"value": 2.0, "low": 1.9, "high": 2.1},
        "compile": {"value": 3.0, "low": 0.9, "high": 3.3},
    },
    "over_floor": {"value": 1.234, "low": 1.2, "high": 1.3},
    "rounds": 42,
}


def run_of(record):
    return document({"name": "test_se_fusion", "extra_info": {"cnnperf_fusion": record}, "stats": {}})


def test_the_summary_shows_each_form_with_its_ratio():
    lines = render(run_of(RECORD))
    assert "tail of a block (BatchNorm, SE, shortcut, ReLU), forward and backward, fp32, channels_last" in lines
    (row,) = [line for line in lines if "32x64x16x16" in line]
    assert row.split() == [
        "32x64x16x16",
        "4.00",
        "ms",
        "6.00",
        "ms",
        "2.00",
        "ms",
        "2.00x",
        "[1.90,",
        "2.10]",
        "unsure",
        "[0.90,",
        "3.30]",
        "1.23x",
    ]
    assert max(map(len, lines)) <= 100


def test_a_run_without_the_benchmark_has_no_table():
    assert not any("eager/fused" in line for line in render(document()))


def test_figures_have_the_number_of_rounds(tmp_path):
    page, run = tmp_path / "page.md", tmp_path / "fusion.json"
    page.write_text("<!-- figures:begin -->\n<!-- figures:end -->\n", encoding="utf-8")
    run.write_text(json.dumps(run_of(RECORD)), encoding="utf-8")
    assert main(["figures", str(page), str(run)]) == 0
    text = page.read_text(encoding="utf-8")
    assert (
        "| 32x64x16x16 | 4.00 ms | 6.00 ms | 2.00 ms | 2.00x [1.90, 2.10] | unsure [0.90, 3.30] | 1.23x | 42 |" in text
    )


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (("seconds", "fused"), "cnnperf_fusion.seconds"),
        (("over_fused", "eager", "low"), "cnnperf_fusion.over_fused"),
        (("shape",), "cnnperf_fusion"),
        (("rounds",), "cnnperf_fusion"),
    ],
)
def test_a_damaged_record_is_named(path, where):
    damaged = copy.deepcopy(RECORD)
    container = damaged
    for key in path[:-1]:
        container = container[key]
    del container[path[-1]]
    with pytest.raises(RunFileError, match=f"benchmarks\\[0\\].extra_info.{where}.*{path[-1]}"):
        render(run_of(damaged))


@pytest.mark.parametrize(
    ("part", "trains", "precision", "passes"),
    [
        ("tail", True, "fp32", 10.5),
        ("tail", True, "bf16", 11.0),
        ("tail", False, "fp32", 3.0),
        ("se", True, "bf16", 5.0),
    ],
)
def test_the_floor_counts_the_mask_in_maps(part, trains, precision, passes):
    assert floor_passes(Cell(part, trains, (1, 1, 1, 1), "contiguous", precision)) == passes
