"""An axis, engine, metric, check or architecture is a row: shown on a copy of the package with five more rows."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cnnperf

pytestmark = pytest.mark.slow

ROWS = [
    (
        "records/case.py",
        "    world_size: Annotated[",
        '    tile: Annotated[Count, Axis("toy axis", in_every_id=False)] = 7\n',
    ),
    ("records/engines.py", ")\nENGINES: ", '    Engine("toy", {"backend": "eager"}),\n'),
    ("records/metrics.py", ")\nMETRICS: ", '    Metric("toys", "B", "lower", True, "toy metric"),\n'),
    (
        "models/catalog.py",
        "    Architecture(\n",
        '    Architecture(name="toy", build=LeNet5, summary="toy", source=LENET, fixed_image_size=True),\n',
    ),
    (
        "measure/checks.py",
        "    Check(\n",
        '    Check("toy", "toy meaning", "toy remedy", lambda evidence: Seen("toy seen")),\n',
    ),
]
PROGRAM = """
    import contextlib, io, json, sys
    from pathlib import Path

    import cnnperf
    from cnnperf.cli import main
    from cnnperf.measure.measurement import Laboratory
    from cnnperf.measure.sampler import Schedule
    from cnnperf.models.catalog import resolve
    from cnnperf.records.case import Case, axes_of_label
    from cnnperf.records.metrics import Value, with_units
    from cnnperf.records.run import Run
    from cnnperf.records.writing import save_run
    from cnnperf.report.terminal import render_run
    from cnnperf.suite.flags import OPTIONS
    from cnnperf.suite.options import parse_options

    here = Path(sys.argv[1])
    options = parse_options({"cnnperf_axis": ("tile=8,9", "engine=toy", "phase=forward"), "cnnperf_device": ("cpu",)})
    cases = options.plan().cases(resolve("toy"))
    laboratory = Laboratory(Schedule(budget=0.0, warmup=0.0, least_groups=3))
    record = laboratory.measure(cases[0].replace(batch=2)).record("test")
    record = record.with_values(with_units({"toys": Value(3.0)}))
    run = Run(cases=(record,))
    save_run(here / "run.json", run)
    frame = cnnperf.load_runs(here / "run.json")
    with contextlib.redirect_stdout(io.StringIO()) as listed:
        main(["list", "metrics"])
    print(json.dumps({
        "help": [option.help for option in OPTIONS if option.name == "axis"],
        "ids": [case.id() for case in cases],
        "label": axes_of_label(cases[0].label()),
        "columns": list(frame.columns),
        "architecture": frame.architecture.iloc[0],
        "tile": int(frame.tile.iloc[0]),
        "default": Case("lenet5").tile,
        "metric": frame[frame.metric == "toys"][["value", "unit"]].values.tolist(),
        "engine": frame.engine.iloc[0],
        "graphs": frame[frame.metric == "graphs"].value.tolist(),
        "findings": [[one.kind, one.seen] for one in record.findings],
        "summary": render_run(run),
        "listed": listed.getvalue(),
    }))
"""


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Return what a copy of the package with the rows says of them."""
    here = tmp_path_factory.mktemp("rows")
    copy = shutil.copytree(
        Path(cnnperf.__file__).parent, here / "cnnperf", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, before, row in ROWS:
        file = copy / name
        text = file.read_text(encoding="utf-8")
        assert text.count(before) >= 1, name
        at = text.index(before)
        file.write_text(text[:at] + row + text[at:], encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(here)}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(here)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=here)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_row_is_an_axis_in_options_ids_labels_columns_and_files(toys):
    assert "tile" in toys["help"][0]
    assert [name.endswith(f"-tile={tile}") for name, tile in zip(toys["ids"], (8, 9), strict=True)] == [True, True]
    assert toys["label"]["tile"] == 8
    assert toys["columns"].index("tile") == toys["columns"].index("world_size") - 1
    assert (toys["tile"], toys["default"]) == (8, 7)


def test_a_row_is_an_engine_that_options_take_and_that_is_measured(toys):
    assert all("-engine=toy-" in name for name in toys["ids"])
    assert toys["engine"] == "toy"
    assert toys["graphs"] == [1.0]


def test_a_row_is_an_architecture_that_is_planned_and_measured(toys):
    assert all(name.startswith("arch=toy-") for name in toys["ids"])
    assert toys["architecture"] == "toy"


def test_a_row_is_a_metric_with_its_unit_in_files_frame_and_list(toys):
    assert toys["metric"] == [[3.0, "B"]]
    assert "toy metric" in toys["listed"]


def test_a_row_is_a_finding_of_every_case_that_it_sees(toys):
    assert ["toy", "toy seen"] in toys["findings"]
    assert any("toy seen" in line for line in toys["summary"])
