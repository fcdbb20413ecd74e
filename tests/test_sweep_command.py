"""`cnnperf sweep`, as a person types it."""

import json

import pytest

from cnnperf.cli import main
from cnnperf.measure.measurement import Laboratory
from cnnperf.runs import load_runs, load_samples
from cnnperf.suite import bench_run

pytestmark = pytest.mark.slow

TINY = ("--phase", "forward", "--time", "0.01")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_run, "apply_policy", lambda policy: policy)  # it cannot be taken back
    return tmp_path


def sweep(*given):
    return main(["sweep", *given])


def test_a_sweep_is_a_run_like_any_other(here, capsys):
    given = ("lenet5", "--over", "batch", "--values", "4,1,2", "--engine", "eager", "--device", "cpu", *TINY)
    assert sweep(*given, "--png", "figures", "--svg", "figures") == 0
    out, told = capsys.readouterr()
    assert [line.split()[0] for line in told.splitlines() if line.startswith("[")] == ["[1/3]", "[2/3]", "[3/3]"]
    assert "lenet5 forward cpu over batch" in out
    (path,) = (here / ".benchmarks").rglob("*.json*")
    assert path.name.startswith("0001_")
    assert f"wrote {path.relative_to(here)}" in out
    frame = load_runs(path)
    assert frame[frame.metric == "throughput"].batch.tolist() == [1, 2, 4]
    assert load_samples(path).batch.unique().tolist() == [1, 2, 4]
    assert {file.name for file in (here / "figures").iterdir()} == {
        f"sweep-batch-lenet5-forward.{ending}" for ending in ("png", "svg")
    }
    assert main(["show"]) == 0
    assert "lenet5 forward cpu over batch" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert "sweep" in capsys.readouterr().out
    assert main(["report", "--md", "run.md"]) == 0
    assert "lenet5 forward cpu over batch" in (here / "run.md").read_text()
    assert sweep("lenet5", "--over", "threads", "--values", "1", *TINY, "--out", "own.json") == 0
    assert json.loads((here / "own.json").read_text())["cnnperf"]["suite"] == "sweep"
    assert main(["compare", str(path), "own.json"]) == 3


def test_an_interrupted_sweep_is_saved_as_far_as_it_got(here, capsys, monkeypatch):
    real, measured = Laboratory.measure_blocks, []

    def measure_blocks(self, tasks):
        measured.append(tasks)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return real(self, tasks)

    monkeypatch.setattr(Laboratory, "measure_blocks", measure_blocks)
    assert sweep("lenet5", "--over", "batch", "--engine", "eager", "--out", "cut.json", *TINY) == 130
    assert "cnnperf: interrupted" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["cut.json"]
    assert load_runs("cut.json").batch.unique().tolist() == [1]


def test_a_killed_sweep_leaves_its_journal_and_says_where(here, capsys, monkeypatch):
    def measure_blocks(self, tasks):
        raise SystemExit(9)

    monkeypatch.setattr(Laboratory, "measure_blocks", measure_blocks)
    with pytest.raises(SystemExit):
        sweep("lenet5", "--over", "batch", *TINY)
    (left,) = (here / ".benchmarks").rglob("*.journal.jsonl")
    assert f"the cases measured so far are in {left.relative_to(here)}" in capsys.readouterr().err
    assert json.loads(left.read_text().splitlines()[0])["cnnperf_journal"] == 1


def test_a_width_that_no_memory_holds_is_refused_without_building_it(here, capsys):
    given = ("--over", "width", "--values", "16777216", "--device", "cpu", *TINY)
    assert sweep("resnet18", *given, "--out", "wide.json") == 0
    assert "not measured: not tried, it would run out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("lenet6", "--over", "batch"), "architecture 'lenet6' is unknown"),
        (("lenet5", "--over", "width"), "lenet5 has one width only"),
        (("lenet5", "--over", "image_size"), "lenet5 takes images of 32 x 32 only"),
        (("lenet5", "--over", "batch", "--values", "0"), "--values takes whole numbers from 1 to 16777216"),
        (("lenet5", "--over", "batch", "--values", "1,,2"), "--values takes whole numbers from 1 to 16777216"),
        (("lenet5", "--over", "batch", "--values", "9" * 30), "--values takes whole numbers from 1 to 16777216"),
        (("lenet5", "--over", "batch", "--step", "200%"), "--step takes a percentage above 0 and below 100"),
        (("lenet5", "--over", "batch", "--step", "much"), "--step takes a percentage above 0 and below 100"),
        (("lenet5", "--over", "batch", "--device", "cuda"), "--device cuda: this"),
        (("lenet5", "--over", "batch", "--device", "tpu"), "--device takes auto, cpu, cuda or cuda:N"),
        (("lenet5", "--over", "batch", "--time", "0"), "--time takes seconds above 0"),
        (("lenet5", "--over", "batch", "--time", "nan"), "--time takes seconds above 0"),
        (("lenet5", "--over", "batch", "--out", "gone/run.json"), "gone is not a writable folder"),
        (("lenet5", "--over", "batch", "--out", "run.txt"), "--out takes a file that ends in .json"),
        (("lenet5", "--over", "threads", "--values", "1,4096"), "--over threads takes 1 to"),
        (("lenet5", "--over", "threads", "--max-batch", "4"), "--max-batch only applies to doubling the batch"),
        (("lenet5", "--over", "threads", "--step", "5%"), "--step only applies to doubling the batch"),
        (("lenet5", "--over", "threads", "--to-memory"), "--to-memory only applies to"),
        (("lenet5", "--over", "batch", "--batch", "4"), "--batch does not apply to --over batch"),
    ],
)
def test_a_bad_option_is_one_sentence_and_leaves_nothing(here, capsys, given, message):
    import torch

    if "cuda" in given and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert sweep(*given) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert message in told
    assert len(told.splitlines()) == 1
    assert list(here.iterdir()) == []


def test_an_axis_that_cannot_be_swept_over_is_named_with_those_that_can(here, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep("lenet5", "--over", "colour")
    assert stopped.value.code == 2
    assert "invalid choice: 'colour' (choose from " in capsys.readouterr().err


def test_pictures_without_the_package_are_refused_before_measuring(here, capsys, monkeypatch):
    monkeypatch.setattr("cnnperf.commands.command.find_spec", lambda name: None)
    assert sweep("lenet5", "--over", "batch", "--png", "figures") == 2
    assert "pip install 'cnnperf[report]'" in capsys.readouterr().err
