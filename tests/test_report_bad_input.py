"""What no benchmark would write, fed to everything that reads runs: an answer or one sentence, never a traceback."""

from needs import needs

needs("altair", "jinja2", "tabulate", "vl_convert")

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import benchmark, document, finding, metric

from cnnperf import load_runs, load_samples
from cnnperf.cli import main
from cnnperf.output import write_whole
from cnnperf.report.markdown import MOST_BYTES
from cnnperf.testing import MadeHistory

pytestmark = pytest.mark.slow

ODD = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e308, 5e-324, None]
SIGNS = {
    "escape": "net\x1b[31m\x00",
    "surrogate": "net\ud800",
    "lines": "net\nwork\r\n| a |",
    "HTML": "</script><img src=x onerror=alert(1)>",
    "Markdown": "a|b`c`[d](e)<!-- figures:end -->",
    "long": "n" * 10_000,
    "right to left": "\u202enet\u2066",
}
DRAWN = ("report", "run.json", "--html", "a.html", "--md", "a.md", "--svg", "drawn", "--chart", "latency-*")
EVERY = (
    DRAWN,
    ("show", "run.json"),
    ("list", "--runs", "run.json"),
    ("history", "--runs", "run.json"),
    *(("export", "run.json", "--format", name, "--out", "out") for name in ("csv", "parquet", "github", "bencher")),
)


@pytest.fixture
def save(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def saved(*benchmarks, name="run.json", **facts):
        (tmp_path / name).write_text(json.dumps(document(*benchmarks, **facts)))
        return tmp_path / name

    return saved


def answered(capsys, *arguments):
    """Run a command; a traceback, which the command line catches, is a failure."""
    status = main(list(arguments))
    told = capsys.readouterr()
    assert "Traceback" not in told.err, (arguments, told.err)
    assert status in ((0, 1, 3) if not told.err else (0, 1, 2, 3))
    return told


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_numbers_that_no_time_can_be(save, tmp_path, capsys, odd, field):
    values = {"latency": metric("latency", 1e-3, 0.02), "throughput": metric("throughput", 64e3, 0.02)}
    values["latency"][field] = values["throughput"][field] = odd
    save(benchmark(metrics=values), benchmark(engine="compile"), benchmark("lenet5_avg"))
    for arguments in EVERY:
        answered(capsys, *arguments)
    data = (tmp_path / "a.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    json.loads(data, parse_constant=pytest.fail)


@pytest.mark.parametrize("text", SIGNS.values(), ids=SIGNS)
def test_names_that_nobody_gives(save, capsys, tmp_path, text):
    case = benchmark(text, findings=[finding(text, text)], engine="compile")
    save(case, environment={"cpu_model": text, text: text}, not_measured=[{"axes": {"phase": text}, "reason": text}])
    for arguments in EVERY:
        answered(capsys, *arguments)
    assert "\x1b" not in (tmp_path / "drawn" / "latency-forward.svg").read_text()
    assert len(load_runs(tmp_path / "run.json"))
    assert len(load_samples(tmp_path / "run.json"))


@pytest.mark.parametrize("text", SIGNS.values(), ids=SIGNS)
def test_figures_of_any_name_leave_the_document_whole(save, capsys, tmp_path, text):
    save(benchmark(text, device="cpu"))
    (tmp_path / "README.md").write_text("<!-- figures:begin -->\n<!-- figures:end -->\nrest\n")
    for _ in range(2):
        assert main(["figures", "README.md", "run.json"]) == 0
    shown = (tmp_path / "README.md").read_text()
    assert shown.endswith("<!-- figures:end -->\nrest\n")
    assert "<img" not in shown
    (row,) = [line for line in shown.splitlines() if "| forward |" in line]
    assert row.replace("\\|", "").count("|") == 11


def test_infinite_ceilings_and_counters_leave_a_page_that_can_be_read(save, tmp_path, capsys):
    values = {name: metric(name, 1e9) for name in ("latency", "flop", "traffic", "flop_rate")}
    save(benchmark(metrics=values), ceilings={"cpu": {"copy_bandwidth": math.inf, "matmul_rate_fp32": 1e11}})
    answered(capsys, *DRAWN)
    data = (tmp_path / "a.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    json.loads(data, parse_constant=pytest.fail)


def test_a_run_of_which_every_case_failed(save, capsys):
    save(not_measured=[{"axes": {"architecture": "lenet5"}, "reason": "out of memory " * 10_000}])
    assert main(["report", "run.json", "--html", "a.html", "--md", "a.md", "--png", "drawn"]) == 2
    told = capsys.readouterr()
    assert told.out.splitlines() == ["wrote a.html", "wrote a.md"]
    assert "there are no charts, because the run has no measured case" in told.err


def test_reasons_and_findings_of_any_length_fit_into_a_comment(save, tmp_path, capsys):
    long = [{"axes": {"batch": n}, "reason": f"E{'x' * n} " + "why " * 20_000} for n in range(1, 20)]
    kinds = [finding(f"kind {n}", "seen " * 5_000) for n in range(20)]
    save(benchmark(findings=kinds), not_measured=long, findings=kinds)
    answered(capsys, *DRAWN)
    assert len((tmp_path / "a.md").read_bytes()) <= MOST_BYTES


def test_ten_thousand_cases(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(MadeHistory(cases=10_000, rounds=3).document(0)))
    answered(capsys, *DRAWN)
    assert len((tmp_path / "a.md").read_bytes()) <= MOST_BYTES
    assert "more rows are left out" in (tmp_path / "a.md").read_text()
    assert "more cases" in (tmp_path / "drawn" / "latency-forward.svg").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ('{"benchmarks": [', "cut short"),
        ('{"datetime": "2026-05-01T00:00:00", "version": 3}', "not a run file"),
        ("[1, 2]", "not a run file"),
        ('{"machine_info": {}, "benchmarks": 7}', "benchmarks: a list is needed here, found 7"),
        (json.dumps(document(schema=999)), "999"),
    ],
)
@pytest.mark.parametrize("command", ["report", "show", "export"])
def test_files_that_are_no_runs_are_named_with_what_is_wrong(tmp_path, monkeypatch, capsys, text, told, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text(text)
    more = ["--html", "a.html"] if command == "report" else []
    assert main([command, "bad.json", *more]) == 2
    err = capsys.readouterr().err
    assert err.startswith("cnnperf: bad.json: ")
    assert told in err
    assert not (tmp_path / "a.html").exists()


def test_a_run_of_a_later_version_beside_one_of_this_is_named(save, capsys):
    save(benchmark(), name="0001.json")
    save(benchmark(), name="0002.json", schema=3)
    for arguments in (["list", "--runs", "."], ["report", "1", "--runs", ".", "--md", "a.md"]):
        assert main(arguments) == 2
        assert "0002.json: " in (err := capsys.readouterr().err)
        assert "version" in err


def test_runs_without_a_usable_value_have_a_history_of_dashes(save, capsys):
    save(benchmark(metrics={"latency": metric("latency", math.nan)}))
    assert main(["history", "--runs", "run.json"]) == 3
    assert "1 values that are no numbers above 0 are left out" in " ".join(capsys.readouterr().out.split())


def test_an_output_that_is_a_link_stays_one_and_keeps_its_mode(tmp_path):
    real, link = tmp_path / "real.md", tmp_path / "link.md"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o600)


def test_into_a_pipe_is_written_and_not_in_its_place(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, "text")
        assert reader.communicate(timeout=60)[0] == b"text"
    assert pipe.is_fifo()


@pytest.mark.parametrize("path", [".", "/", "folder"])
def test_an_output_that_is_a_folder_is_one_sentence(save, tmp_path, capsys, path):
    (tmp_path / "folder").mkdir()
    save(benchmark())
    assert main(["report", "run.json", "--md", path]) == 2
    assert "it is a folder; give the path of a file" in capsys.readouterr().err


def test_an_empty_path_is_a_usage_error(save, capsys):
    save(benchmark())
    with pytest.raises(SystemExit, match="2"):
        main(["report", "run.json", "--html", ""])
    assert "the path is empty" in capsys.readouterr().err


def through_a_shell(command, folder, **environment):
    program = f'"{sys.executable}" -m cnnperf.cli'
    return subprocess.run(
        ["bash", "-c", command.replace("cnnperf", program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | environment,
    )


def test_a_reader_that_leaves_early_hides_no_verdict(tmp_path):
    MadeHistory(runs=30, cases=3, rounds=3, shift=0.3).write(tmp_path / "runs")
    done = through_a_shell('cnnperf history --runs runs | true; echo "${PIPESTATUS[0]}"', tmp_path)
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_an_answer_that_cannot_be_written_is_one_sentence(save, tmp_path):
    save(benchmark())
    done = through_a_shell("cnnperf show run.json > /dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "cnnperf: the standard output cannot be written: No space left on device\n"
    assert through_a_shell("cnnperf show nothing.json 2> /dev/full", tmp_path).returncode == 2
    assert through_a_shell("cnnperf show run.json >&-", tmp_path).returncode == 0


def test_a_terminal_that_knows_ascii_alone_gets_an_answer(save, tmp_path):
    save(benchmark())
    done = through_a_shell("cnnperf show run.json", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xb12.0%" in done.stdout


def test_what_moves_a_cursor_is_not_repeated_to_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err
