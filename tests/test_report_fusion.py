"""The table of the fusion benchmark, in the terminal, as Markdown and from damaged files."""

import copy
import json

import pytest
from documents import document

from cnnperf.cli import main
from cnnperf.errors import RunFileError
from cnnperf.measure import cells
from cnnperf.measure.cells import Cell, all_cells, floor_passes, measure_cell
from cnnperf.measure.sampler import Schedule
from cnnperf.records.reading import parse_document
from cnnperf.records.run import Run
from cnnperf.records.writing import document_of
from cnnperf.report.terminal import render
from cnnperf.testing import ScriptedClock

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


ON_A_GPU = {
    **RECORD,
    "device": "cuda",
    "host_seconds": {
        form: {"value": s, "low": 0.9 * s, "high": 1.1 * s}
        for form, s in (("eager", 5e-3), ("compile", 7e-3), ("fused", 3e-3))
    },
    "floor_seconds": {"value": 1.5e-3, "low": 1.4e-3, "high": 1.6e-3},
}


def test_of_a_gpu_the_host_s_time_stands_apart_and_the_measured_beside_the_expected():
    lines = render(run_of(ON_A_GPU))
    title = next(place for place, line in enumerate(lines) if line.endswith("host time; expected and measured"))
    row = next(line for line in lines[title:] if "32x64x16x16" in line)
    found = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert found[1:] == ["5.00 ms ±10%", "7.00 ms ±10%", "3.00 ms ±10%", "1.50 ms ±6.7%", "2.00 ms ±0%"]
    assert "calls captured" in " ".join(lines)
    assert "calls captured" not in " ".join(render(run_of(RECORD)))


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
    assert not any(line.endswith(("what SE adds", "other libraries over ours")) for line in lines)
    assert max(map(len, lines)) <= 100


BLOCK = RECORD | {
    "part": "block",
    "trains": False,
    "device": "cuda:0",
    "seconds": RECORD["seconds"] | {"fused-compile": {"value": 1e-3, "low": 1e-3, "high": 1e-3}},
    "over_floor": None,
    "over_fused_compile": {"value": 1.5, "low": 1.4, "high": 1.6},
    "over_plain": {
        "eager": {"value": 1.2, "low": 1.1, "high": 1.3},
        "fused-compile": {"value": 1.021, "low": 0.985, "high": 1.03},
    },
}


def test_what_se_adds_is_shown_in_percent_where_there_is_a_part_without():
    lines = render(run_of(BLOCK))
    title = "block (two 3x3 convolutions, SE, shortcut), inference, fp32, channels_last, cuda:0"
    assert title in lines
    header, row = lines[lines.index(f"{title}, what SE adds") + 1 :][:2]
    assert header.split() == ["eager", "fused-compile"]
    assert row.split()[1:] == ["20%", "[10%,", "30%]", "2.1%", "[-1.5%,", "3.0%]"]
    (first,) = [line for line in lines if "eager/fused" in line]
    assert first.split()[-2:] == ["eager/fused", "compile/fused-compile"]


def test_the_forms_of_other_libraries_have_a_table_of_their_own():
    record = copy.deepcopy(RECORD)
    record["over_fused"]["timm-compile"] = {"value": 1.5, "low": 1.4, "high": 1.6}
    lines = render(run_of(record))
    at = next(index for index, line in enumerate(lines) if line.endswith("other libraries over ours"))
    assert lines[at + 1].split() == ["timm-compile"]
    assert lines[at + 2].split() == ["32x64x16x16", "1.50x", "[1.40,", "1.60]"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("part", "trains"), [("se", True), ("tail", False), ("block", False)])
def test_a_measured_cell_is_a_record_that_reads(monkeypatch, part, trains):
    monkeypatch.setattr(cells, "clock_for", lambda _: ScriptedClock(0.001))
    cell = Cell(part, trains, (2, 16, 4, 4), "channels_last", "fp32")
    together, record = measure_cell(cell, Schedule(budget=0.01))
    (found,) = parse_document(json.loads(json.dumps(document_of(Run(fusion=(record,)))))).fusion
    assert found == record
    assert found.rounds == sum(map(len, together.groups["fused"])) > 0
    assert (found.over_floor is None) == (part == "block")
    assert set(found.over_plain) == ({"eager", "compile", "fused", "fused-compile"} if part == "block" else set())


def test_every_cell_has_an_id_of_its_own_and_full_adds_precisions_and_stages():
    default, full = (all_cells(("cpu",), full=full) for full in (False, True))
    assert len({cell.id() for cell in full}) == len(full) > len(default)
    assert {cell.precision for cell in default} == {"fp32"}
    assert set(default) < set(full)


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
        (("seconds", "fused"), "cnnperf_fusion"),
        (("over_fused", "eager"), "cnnperf_fusion"),
        (("over_fused", "eager", "value"), "cnnperf_fusion.over_fused.eager"),
        (("over_fused", "eager", "low"), "cnnperf_fusion"),
        (("over_floor", "high"), "cnnperf_fusion"),
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
