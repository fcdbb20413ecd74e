"""The commands that make and list things, as a person types them."""

import json
import os
import subprocess
import sys

import pytest
from documents import benchmark, document

from cnnperf.cli import main
from cnnperf.errors import CnnperfError
from cnnperf.output import write_whole


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in a folder with two saved runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".benchmarks").mkdir()
    for number in (1, 2):
        found = document(benchmark(latency=number * 1e-3)) | {"datetime": f"2026-05-0{number}T00:00:00+00:00"}
        (tmp_path / ".benchmarks" / f"000{number}_run.json").write_text(json.dumps(found))
    return tmp_path


def test_runs_are_listed_with_the_latest_last(here, capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "time", "(UTC)", "commit", "suite", "cases"]
    assert [line.split()[0] for line in lines[1:]] == ["0001_run", "0002_run"]


def test_architectures_and_metrics_are_listed(here, capsys):
    assert main(["list", "architectures"]) == 0
    assert "se_resnet18_fused: " in capsys.readouterr().out
    assert main(["list", "metrics"]) == 0
    assert "flop (flop, lower is better, counter): " in capsys.readouterr().out


def test_what_is_shown_without_a_name_is_the_latest_run(here, capsys):
    assert main(["show"]) == 0
    assert capsys.readouterr().out.startswith("run 0002_run")
    assert main(["show", "1"]) == 0
    assert capsys.readouterr().out.startswith("run 0001_run")


@pytest.mark.slow
def test_every_output_of_a_report_is_written_and_told(here, capsys):
    given = ["--html", "out/page.html", "--md", "out/report.md", "--png", "out", "--svg", "out"]
    assert main(["report", *given]) == 0
    told = capsys.readouterr().out.splitlines()
    written = sorted(path.name for path in (here / "out").iterdir())
    assert sorted(line.rpartition("/")[2] for line in told) == written
    assert {"page.html", "report.md", "latency-forward.png", "latency-forward.svg"} <= set(written)
    assert (here / "out" / "latency-forward.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (here / "out" / "latency-forward.svg").read_text()


def test_pictures_are_chosen_by_name(here, capsys):
    assert main(["report", "--svg", "out", "--chart", "latency-*", "--dark"]) == 0
    assert [path.name for path in (here / "out").iterdir()] == ["latency-forward.svg"]
    assert main(["report", "--svg", "out", "--chart", "pie"]) == 2
    assert "--chart pie: there is no such chart; there are latency-forward" in capsys.readouterr().err


def test_a_report_of_nothing_is_one_sentence(here, capsys):
    assert main(["report"]) == 2
    assert "give --html FILE, --md FILE" in capsys.readouterr().err


def test_the_summary_of_a_step_is_appended_to(here, monkeypatch, capsys):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert main(["report", "--step-summary"]) == 2
    assert "GITHUB_STEP_SUMMARY" in capsys.readouterr().err
    summary = here / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert main(["report", "--step-summary"]) == 0
    assert main(["compare", "1", "2", "--step-summary", "--md", "compare.md"]) == 3
    assert summary.read_text().startswith("before\n### 1 case of 1 network")
    assert summary.read_text().endswith((here / "compare.md").read_text())


def test_an_old_report_stays_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(CnnperfError, match="No space left on device"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_sentence(here, capsys):
    (here / "locked").mkdir(mode=0o500)
    assert main(["report", "--html", "locked/page.html"]) == 2
    assert "cannot be written: Permission denied" in capsys.readouterr().err


def test_a_file_in_the_way_of_a_folder_is_one_sentence(here, capsys):
    (here / "file").touch()
    assert main(["report", "--md", "file/report.md"]) == 2
    assert "file/report.md: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["altair", "tabulate", "vl_convert"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(here, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("charts", "drawing", "html", "markdown"):
        monkeypatch.delitem(sys.modules, f"cnnperf.report.{name}", raising=False)
    assert main(["report", "--html", "a.html", "--md", "a.md"]) == 2
    err = capsys.readouterr().err
    assert f"package {package}; pip install 'cnnperf[report]'" in err


@pytest.mark.slow
def test_the_help_of_no_command_loads_pandas_or_torch():
    for command in ("list", "show", "report", "export", "compare", "history", "gate", "bisect", "doctor"):
        code = (
            "import sys\nfrom cnnperf.cli import main\n"
            f"try:\n    main(['{command}', '--help'])\n"
            "except SystemExit:\n    sys.exit(bool({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode == 0, command
