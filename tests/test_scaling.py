"""Training on several processes: numbers by hand, arguments, and real processes that train, die and hang."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnperf import load_runs
from cnnperf.errors import OptionError
from cnnperf.measure.case import Case
from cnnperf.measure.paired import Together
from cnnperf.measure.sampler import Schedule
from cnnperf.report.figures import figures
from cnnperf.report.scaling import scaling_lines
from cnnperf.runs import parse_document, read_runs
from cnnperf.scaling.__main__ import main
from cnnperf.scaling.arguments import Place, Request, parser, request_of, sizes_up_to
from cnnperf.scaling.results import arms_of, entry_of, values_of
from cnnperf.scaling.rounds import Gathered, sample_ranks
from cnnperf.testing import ScriptedClock, ScriptedSubject

CASE = Case("lenet5", "train", batch=8, threads=1)
NAMES = ("weak 1", "weak 2", "weak 2 without communication", "strong 2", "strong 2 without communication")
LIMIT = 120  # seconds for real processes, which do nothing slowly but load PyTorch


def gathered(**seconds):
    """Give three groups of three equal rounds; of two processes, the second is slower."""
    groups = {name: [[seconds[name.replace(" ", "_")]] * 3] * 3 for name in NAMES}
    ranks = {
        name: [[value * factor for group in groups[name] for value in group] for factor in (0.9, 1.0)] for name in NAMES
    }
    ranks["weak 1"] = ranks["weak 1"][1:]
    return Gathered(Together(groups, "budget"), ranks)


SAMPLES = gathered(
    weak_1=0.08,
    weak_2=0.1,
    weak_2_without_communication=0.09,
    strong_2=0.05,
    strong_2_without_communication=0.04,
)


def document(samples=SAMPLES):
    alone, weak, strong = arms_of(CASE, [1, 2])
    facts = {"schema": 1, "suite": "scaling", "planned": 3, "environment": {"world_size": 2, "backend": "gloo"}}
    return {"benchmarks": [entry_of(arm, alone, samples) for arm in (alone, weak, strong)], "cnnperf": facts}


def test_weak_scaling_gives_each_process_the_batch_and_strong_scaling_a_part_of_it():
    found = [(arm.name, arm.case.world_size, arm.case.batch) for arm in arms_of(CASE, [1, 2, 4])]
    assert found == [("weak 1", 1, 8), ("weak 2", 2, 8), ("weak 4", 4, 8), ("strong 2", 2, 4), ("strong 4", 4, 2)]


def test_efficiency_is_throughput_over_that_of_one_process_times_their_number():
    alone, weak, strong = arms_of(CASE, [1, 2])
    of_weak, of_strong = (values_of(arm, alone, SAMPLES) for arm in (weak, strong))
    one = values_of(alone, alone, SAMPLES)["throughput"].value
    assert of_weak["weak_efficiency"].value == pytest.approx(of_weak["throughput"].value / (2 * one))
    assert of_strong["strong_efficiency"].value == pytest.approx(of_strong["throughput"].value / (2 * one))
    assert of_weak["weak_efficiency"].value == pytest.approx(0.8)
    assert of_strong["strong_efficiency"].value == pytest.approx(0.8)


def test_what_a_step_waits_is_what_it_is_faster_by_without_communication():
    alone, weak, strong = arms_of(CASE, [1, 2])
    assert values_of(weak, alone, SAMPLES)["communication_share"].value == pytest.approx(0.1)
    assert values_of(strong, alone, SAMPLES)["communication_share"].value == pytest.approx(0.2)
    assert "communication_share" not in values_of(alone, alone, SAMPLES)


def test_a_run_file_keeps_the_rounds_of_every_process():
    run = parse_document(document())
    assert [record.case.world_size for record in run.cases] == [1, 2, 2]
    weak = run.cases[1]
    assert [len(rounds) for rounds in weak.ranks["step"]] == [9, 9]
    assert weak.ranks["without_communication"][1][0] == pytest.approx(0.09)


def test_the_table_has_a_row_a_number_of_processes_and_names_the_slowest():
    text = "\n".join(scaling_lines(parse_document(document())))
    assert "Training on 2 processes (gloo), 1 thread each" in text
    assert re.search(r"weak +2 +8 +100 ms +160 +80% \[80, 80\]", text)
    assert re.search(r"strong +2 +4 +50\.0 ms +160 +80% \[80, 80\]", text)
    assert "slowest of 2: process 1, which computes 11% [11, 11] longer" in text


def test_without_a_sure_difference_no_process_is_named():
    even = Gathered(SAMPLES.together, {name: [rounds[-1]] * len(rounds) for name, rounds in SAMPLES.ranks.items()})
    assert "none of 2 processes is surely slower" in "\n".join(scaling_lines(parse_document(document(even))))


def test_a_readme_s_figures_have_the_table_once():
    text = figures([("one", parse_document(document()))])
    assert text.count("| lenet5 | weak | 2 | 8 |") == 1
    assert text.count("| lenet5 |") == 3


class Pair:
    """Be the first of two processes, the second of which takes twice as long and decides nothing."""

    rank, size = 0, 2

    def __init__(self):
        self.meetings = 0

    def meet(self):
        self.meetings += 1

    def gather(self, own):
        if not isinstance(own, dict):
            return [own, own]
        return [own, {name: [2 * one for one in taken] for name, taken in own.items() if name != "weak 1"}]

    def share(self, value):
        return value


def test_a_round_takes_as_long_as_its_slowest_process_and_all_meet_before_it():
    crew, clock, schedule = Pair(), ScriptedClock(0.01), Schedule(budget=0.1, least_groups=2, settled_groups=3)
    steps = {name: ScriptedSubject() for name in ("weak 1", "weak 2")}
    found = sample_ranks(steps, "weak 1", crew, clock, schedule)
    assert found.together.latency("weak 2").value == pytest.approx(0.02)
    assert found.together.ratio("weak 1", "weak 2").value == pytest.approx(0.5)
    assert [len(ranks) for ranks in found.ranks.values()] == [1, 2]
    assert crew.meetings == sum(step.events.count("run") for step in steps.values())


def test_a_process_without_a_part_meets_the_others_all_the_same():
    crew, clock, schedule = Pair(), ScriptedClock(0.01), Schedule(budget=0.1, least_groups=2)
    steps = {"weak 1": None, "weak 2": ScriptedSubject()}
    crew.gather = lambda own: [{**own, "weak 1": own["weak 2"]}, own] if isinstance(own, dict) else [own, own]
    sample_ranks(steps, "weak 1", crew, clock, schedule)
    assert crew.meetings == 2 * steps["weak 2"].events.count("run")


@pytest.mark.parametrize(("size", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6])])
def test_the_numbers_of_processes_double_and_end_with_all(size, sizes):
    assert sizes_up_to(size) == sizes


@pytest.mark.parametrize(("sizes", "batch"), [([1, 2], 4), ([1, 2, 3], 6), ([1, 2, 4, 6], 12)])
def test_the_batch_can_be_shared_by_each_number_of_processes(sizes, batch):
    assert Request(()).batch_for("resnet18", sizes) == batch


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lenet"], "did you mean"),
        (["lenet5", "--batch", "3"], "multiple of 2"),
        (["lenet5", "--batch", "0"], "at least 1"),
        (["lenet5", "--threads", "-1"], "at least 1"),
        (["lenet5", "--time", "0"], "above 0"),
        (["lenet5", "--timeout", "nan"], "above 0"),
        (["lenet5", "--interval", "much"], "--interval"),
        (["lenet5", "--device", "cuda"], "CUDA devices"),
    ],
)
def test_a_bad_argument_is_one_sentence_before_the_processes_meet(arguments, said):
    with pytest.raises(OptionError, match=said) as raised:
        request_of(parser().parse_args(arguments), Place(0, 2, 0, 2))
    assert "\n" not in str(raised.value)


def test_without_torchrun_it_says_how_to_start_it(monkeypatch, capsys):
    monkeypatch.delenv("RANK", raising=False)
    assert main(["lenet5"]) == 2
    assert "torchrun --standalone --nproc-per-node 2 -m cnnperf.scaling" in capsys.readouterr().err


def start(folder, *arguments):
    """Start two processes that train, from a folder without this project."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "-m", "cnnperf.scaling", *arguments, "--runs", str(folder / "runs")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_two_processes_train_every_network_and_one_file_is_written(tmp_path):
    process = start(tmp_path, "lenet5", "resnet18", "se_resnet18_fused", "--batch", "2", "--time", "0.02")
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    frame = load_runs(tmp_path / "runs")
    assert set(frame["architecture"]) == {"lenet5", "resnet18", "se_resnet18_fused"}
    rows = ["architecture", "world_size", "batch"]
    values = frame.pivot_table(index=rows, columns="metric", values="value", observed=True)
    together = values.xs(2, level="world_size")
    assert together["throughput"].gt(0).all()
    assert values["weak_efficiency"].notna().sum() == values["strong_efficiency"].notna().sum() == 3
    # Gradients in fp32 of 11,173,962 parameters, and BatchNorm's statistics: 9,600 numbers in fp32, 20 counts in int64.
    assert values.loc[("resnet18", 2, 2), "communicated"] == 4 * (11_173_962 + 9_600) + 8 * 20
    ((_, run),) = read_runs(tmp_path / "runs")
    assert all(len(record.ranks["step"]) == record.case.world_size for record in run.cases)
    assert "Training on 2 processes (gloo)" in said
    assert "saved" in said


def descendants(process):
    """Return the processes that torchrun has started, by rank."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            environment = (status.parent / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        ranks = [int(one[5:]) for one in environment if one.startswith(b"RANK=")]
        if parent == process.pid and ranks:
            found[ranks[0]] = int(status.parent.name)
    return found


def lives(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("rank", "how", "said"),
    [
        (1, signal.SIGKILL, "process 1 (pid {}) died"),
        (0, signal.SIGKILL, "process 0 (pid {}) died"),
        (1, signal.SIGSTOP, "process 1 (pid {}) did not answer and was ended"),
    ],
)
def test_a_process_that_is_lost_ends_the_run_and_what_was_measured_is_kept(tmp_path, rank, how, said):
    process = start(
        tmp_path, "lenet5", "resnet18", "--batch", "2", "--time", "0.1", "--interval", "1%", "--timeout", "4"
    )
    pids = {}
    try:
        deadline = time.monotonic() + LIMIT
        journals = []
        while not any(one.read_text().count("\n") > 3 for one in journals):  # its head, and the first network's cases
            assert time.monotonic() < deadline, "the first network was never finished"
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
            journals = list(tmp_path.glob("runs/**/*.journal.jsonl"))
        pids = descendants(process)
        os.kill(pids[rank], how)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 1
        assert said.format(pids[rank]) in output
        assert str(journals[0]) in output
        assert not any(lives(pid) for pid in pids.values())
        assert set(load_runs(tmp_path / "runs")["architecture"]) == {"lenet5"}
        assert json.loads(journals[0].read_text().splitlines()[0])["cnnperf"]["planned"] == 6
    finally:
        for pid in pids.values():
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        process.kill()
