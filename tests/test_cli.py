"""The command line, run in this process on files made from small tables."""

import json
import subprocess
import sys

import pytest
from documents import benchmark, document, metric

from cnnperf.cli import main


def save(path, *benchmarks, **facts):
    path.write_text(json.dumps(document(*benchmarks, **facts)), encoding="utf-8")
    return str(path)


def counted(kernels, latency=1e-3):
    return benchmark(
        latency=latency, metrics={"latency": metric("latency", latency, 0.02), "kernels": metric("kernels", kernels)}
    )


def test_show_prints_the_summary_of_a_saved_run(tmp_path, capsys):
    assert main(["show", save(tmp_path / "0001_a.json", benchmark())]) == 0
    out = capsys.readouterr().out
    assert out.startswith("run 0001_a\nmachine: Example CPU")
    assert "lenet5, batch 64, 62,006 parameters" in out


def test_two_runs_with_equal_counters_agree_and_show_both_times(tmp_path, capsys):
    first, second = save(tmp_path / "a.json", counted(7)), save(tmp_path / "b.json", counted(7, latency=2e-3))
    assert main(["repeat", first, second]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 counters of 1 cases compared: all equal to the last digit.")
    assert "lenet5 forward cpu eager batch 64  1.00 ms  2.00 ms  ~2.00x [1.94, 2.06]" in out


def test_a_counter_that_differs_in_its_last_digit_is_named(tmp_path, capsys):
    first, second = save(tmp_path / "a.json", counted(7)), save(tmp_path / "b.json", counted(8))
    assert main(["repeat", first, second]) == 1
    assert "lenet5 forward cpu eager batch 64: kernels 7.0 and 8.0" in capsys.readouterr().out


def test_a_counter_that_only_one_run_has_differs(tmp_path, capsys):
    alone = benchmark(metrics={"latency": metric("latency", 1e-3)})
    assert main(["repeat", save(tmp_path / "a.json", counted(7)), save(tmp_path / "b.json", alone)]) == 1
    assert "kernels 7.0 and -" in capsys.readouterr().out


def test_a_case_that_only_one_run_has_is_named(tmp_path, capsys):
    first = save(tmp_path / "a.json", benchmark(), benchmark("resnet18"))
    assert main(["repeat", first, save(tmp_path / "b.json", benchmark())]) == 1
    assert "only in one run: resnet18 forward cpu eager batch 64" in capsys.readouterr().out


def test_runs_of_two_commits_are_not_repeats(tmp_path, capsys):
    other = document(benchmark()) | {"commit_info": {"id": "f" * 40, "dirty": False}}
    (tmp_path / "b.json").write_text(json.dumps(other), encoding="utf-8")
    assert main(["repeat", save(tmp_path / "a.json", benchmark()), str(tmp_path / "b.json")]) == 2
    assert "two commits, 0123456789 and ffffffffff" in capsys.readouterr().err


def test_runs_without_a_common_case_cannot_be_compared(tmp_path, capsys):
    first, second = save(tmp_path / "a.json", benchmark()), save(tmp_path / "b.json", benchmark("resnet18"))
    assert main(["repeat", first, second]) == 2
    assert "no case in common" in capsys.readouterr().err


def test_repeat_takes_one_run_a_side(tmp_path, capsys):
    save(tmp_path / "a.json", benchmark())
    save(tmp_path / "b.json", benchmark())
    assert main(["repeat", str(tmp_path), str(tmp_path / "a.json")]) == 2
    assert "names 2 runs, but one is needed" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence_and_status_2(tmp_path, capsys):
    assert main(["show", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == f"cnnperf: {tmp_path / 'none.json'}: no such file or directory\n"


def test_figures_replace_what_stands_between_the_marks_and_nothing_else(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures:begin -->\nold\n<!-- figures:end -->\nafter\n", encoding="utf-8")
    compiled = benchmark(engine="compile", latency=5e-4)
    run = save(tmp_path / "cpu.json", benchmark(), compiled)
    assert main(["figures", str(readme), run]) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(
        "before\n<!-- figures:begin -->\n\n**cpu** (commit 0123456789, 2026-05-04), machine: Example CPU"
    )
    assert text.endswith("<!-- figures:end -->\nafter\n")
    assert "old" not in text
    assert "| lenet5 | forward | eager | cpu | 64 | 1.00 ms ±2.0% | 3 | 64.0k | 12.5 MiB | - |" in text
    assert (
        "| lenet5 | forward | compile | cpu | 64 | 500 µs ±2.0% | 3 | 128k | 12.5 MiB | ~2.00x [1.94, 2.06] |" in text
    )
    capsys.readouterr()
    assert main(["figures", str(readme), run]) == 0
    assert "figures are up to date" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["nothing", "<!-- figures:end --> <!-- figures:begin -->", "<!-- figures:begin -->"])
def test_a_document_without_marks_is_refused_and_left_alone(tmp_path, capsys, text):
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    assert main(["figures", str(readme), save(tmp_path / "a.json", benchmark())]) == 2
    assert "the document needs one line" in capsys.readouterr().err
    assert readme.read_text(encoding="utf-8") == text


def test_help_lists_the_commands_and_the_exit_statuses(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("show", "repeat", "figures", "exit status:"))


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    # Enough to fill the pipe after its reader is gone.
    path = save(tmp_path / "a.json", *(benchmark(f"network{number}") for number in range(1500)))
    command = [sys.executable, "-m", "cnnperf.cli", "show", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "run a\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_error_of_the_program_is_not_told_as_something_worse(tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("cnnperf.runs.choose.choose_runs", broken)
    assert main(["show", "latest"]) == 2
    assert "RuntimeError: a fault of ours" in capsys.readouterr().err
