"""The table of the fusion benchmark, in the terminal, as Markdown and from damaged files."""

import copy
import json

import pytest
from documents import document

from cnnperf.cli import main
from cnnperf.errors import RunFileError
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.sampler import Schedule
from cnnperf.records.case import Case
from cnnperf.records.reading import parse_document
from cnnperf.records.run import Run
from cnnperf.records.writing import document_of
from cnnperf.report.terminal import render
from cnnperf.report.view import RunView
from cnnperf.runs.forms import FormRow, compared_cases
from cnnperf.suite.options import Options
from cnnperf.suite.parts import FORMS, part_cases
from cnnperf.testing import ScriptedClock

RECORD = {
    "part": "tail",
    "trains": True,
    "shape": [32, 64, 16, 16],
    "layout": "channels_last",
    "precision": "fp32",
    "seconds": {
        form: {"value": s, "low": s, "high": s}
        for form, s in (("eager", 4e-3), ("compile", 6e-3), ("fused", 2e-3), ("copy", 2e-3 / 7))
    },
    "over_fused": {
        "eager": {"value": 2.0, "low": 1.9, "high": 2.1},
        "compile": {"value": 3.0, "low": 0.9, "high": 3.3},
    },
    "over_floor": {"value": 1.234, "low": 1.2, "high": 1.3},
    "floor_passes": 10.5,
    "rounds": 42,
}


ON_A_GPU = {
    **RECORD,
    "device": "cuda",
    "host_seconds": {
        form: {"value": s, "low": 0.9 * s, "high": 1.1 * s}
        for form, s in (("eager", 5e-3), ("compile", 7e-3), ("fused", 3e-3))
    },
}


def test_of_a_gpu_the_host_s_time_stands_apart_and_the_measured_beside_the_expected():
    lines = render(run_of(ON_A_GPU))
    title = "tail (BatchNorm, SE, shortcut, ReLU), training, fp32, channels_last, cuda"
    (host,) = [lines[at + 2] for at, line in enumerate(lines) if line == title]
    assert host.split()[1:7] == ["5.00", "ms", "7.00", "ms", "3.00", "ms"]
    at = lines.index(f"{title}, replayed, expected")
    assert lines[at + 2].split("  ")[-2:] == ["1.50 ms ±0%", "2.00 ms ±0%"]
    assert "CUDA graph" in " ".join(lines)
    assert "CUDA graph" not in " ".join(render(run_of(RECORD)))


def run_of(record):
    return document({"name": "test_se_fusion", "extra_info": {"cnnperf_fusion": record}, "stats": {}})


def test_the_summary_shows_each_form_with_its_ratio():
    lines = render(run_of(RECORD))
    assert "tail (BatchNorm, SE, shortcut, ReLU), training, fp32, channels_last" in lines
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
    "seconds": RECORD["seconds"]
    | {form: {"value": 1e-3, "low": 1e-3, "high": 1e-3} for form in ("fused-compile", "plain", "plain-compile")},
    "over_floor": None,
    "over_fused_compile": {"value": 1.5, "low": 1.4, "high": 1.6},
    "over_plain": {
        "eager": {"value": 1.2, "low": 1.1, "high": 1.3},
        "compile": {"value": 1.3, "low": 1.2, "high": 1.4},
        "fused": {"value": 1.1, "low": 1.05, "high": 1.2},
        "fused-compile": {"value": 1.021, "low": 0.985, "high": 1.03},
    },
}


def test_what_se_adds_is_shown_in_percent_where_there_is_a_part_without():
    lines = render(run_of(BLOCK))
    title = "block (two 3x3 convolutions, SE, shortcut), inference, fp32, channels_last, cuda:0"
    assert title in lines
    header, row = lines[lines.index(f"{title}, what SE adds") + 1 :][:2]
    assert header.split() == ["eager", "compile", "fused", "fused-compile"]
    assert row.split()[1:4] == ["20%", "[10%,", "30%]"]
    assert row.split()[-3:] == ["2.1%", "[-1.5%,", "3.0%]"]
    (first,) = [line for line in lines if "eager/fused" in line]
    assert first.split()[-2:] == ["eager/fused", "compile/fused-compile"]


def test_the_forms_of_other_libraries_have_a_table_of_their_own():
    record = copy.deepcopy(RECORD)
    record["over_fused"]["timm-compile"] = {"value": 1.5, "low": 1.4, "high": 1.6}
    record["seconds"]["timm-compile"] = {"value": 3e-3, "low": 3e-3, "high": 3e-3}
    lines = render(run_of(record))
    at = next(index for index, line in enumerate(lines) if line.endswith("other libraries over ours"))
    assert lines[at + 1].split() == ["timm-compile"]
    assert lines[at + 2].split() == ["32x64x16x16", "1.50x", "[1.40,", "1.60]"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("part", "phase"), [("se", "train"), ("tail", "forward"), ("block", "forward")])
def test_the_forms_of_a_part_are_measured_side_by_side_and_read_back_with_their_ratios(part, phase):
    options = Options(("cpu",), axes=("batch=2", "width=16", "image_size=4", "layout=channels_last", f"phase={phase}"))
    cases = part_cases(options, part)
    laboratory = Laboratory(Schedule(budget=0.01), make_clock=lambda _: ScriptedClock(0.001))
    asked = compared_cases(cases)
    measured = laboratory.measure_block("block", cases, asked)
    records = tuple(measured[case].record(case.id()) for case in cases)
    found = parse_document(json.loads(json.dumps(document_of(Run(cases=records)))))
    assert found.cases == records
    assert {record.block for record in records} == {"block"}
    by_case = {record.case: record for record in records}
    assert len(asked) == sum(len(record.ratios) for record in records)
    for above, below in asked:
        assert by_case[above].over(by_case[below]).value == pytest.approx(1.0)
    (row,) = RunView(found).forms
    assert (row.over_floor() is None) == (part == "block")
    assert ("plain" in row.forms) == (part == "block")


def test_every_case_has_an_id_of_its_own_and_full_adds_precisions_and_stages():
    default, full = (
        [case for part in FORMS for case in part_cases(Options(("cpu",), suite=suite), part)]
        for suite in ("default", "full")
    )
    assert len({case.id() for case in full}) == len(full) > len(default)
    assert {case.precision for case in default} == {"fp32"}
    assert set(default) < set(full)


def test_a_short_run_on_a_gpu_has_what_matters_most_first(monkeypatch):
    monkeypatch.setattr(Options, "devices_here", lambda _: ("cuda",))
    cases = [case for part in FORMS for case in part_cases(Options(), part)]
    assert {case.architecture.rpartition(":")[2].partition("_")[0] for case in cases} == {"se", "tail"}
    tails = part_cases(Options(), "tail")
    first = Case("part:tail", "train", "cuda", "eager", "fp32", "channels_last", batch=512, image_size=32, width=64)
    assert tails[0] == first
    assert {case.layout for case in tails[: len(tails) // 2]} == {"channels_last"}
    assert {case.engine for case in tails} == {"eager", "compile", "replay", "compile_replay"}
    assert "part:block" in {case.architecture for case in part_cases(Options(suite="full"), "block")}


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
    ("part", "phase", "precision", "passes"),
    [
        ("tail", "train", "fp32", 10.5),
        ("tail", "train", "bf16", 11.0),
        ("tail", "forward", "fp32", 3.0),
        ("se", "train", "bf16", 5.0),
        ("block", "train", "fp32", None),
    ],
)
def test_the_floor_counts_the_mask_in_maps(part, phase, precision, passes):
    assert FormRow(part, Case(phase=phase, precision=precision), replayed=False, forms={}).floor_passes == passes


def test_a_shape_without_its_four_sizes_is_refused_with_what_is_needed():
    with pytest.raises(RunFileError, match=r"cnnperf_fusion\.shape: a list of length 4 is needed here, found \[1, 2\]"):
        render(run_of({**RECORD, "shape": [1, 2]}))
