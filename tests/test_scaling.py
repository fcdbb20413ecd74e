"""Training on several processes: numbers by hand, arguments, and real processes that train, die and hang."""

from needs import needs

needs("tabulate")

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks

from cnnperf import load_runs
from cnnperf.errors import OptionError
from cnnperf.measure.sampler import Schedule
from cnnperf.records.case import Case
from cnnperf.records.run import Run
from cnnperf.records.writing import document_of
from cnnperf.report.figures import figures
from cnnperf.report.markdown import run_markdown
from cnnperf.report.scaling import scaling_lines
from cnnperf.runs import parse_document, read_runs
from cnnperf.scaling.__main__ import main
from cnnperf.scaling.arguments import Place, Request, parser, request_of, sizes_up_to
from cnnperf.scaling.monitor import BEAT, ENDED, FINE, LOST, HeartbeatMonitor
from cnnperf.scaling.results import arms_of, record_of, values_of
from cnnperf.scaling.rounds import Gathered, sample_ranks
from cnnperf.stats.paired import PairedSamples
from cnnperf.testing import ScriptedClock, ScriptedSubject

pytestmark = pytest.mark.slow

CASE = Case("lenet5", "train", batch=8, threads=1)
NAMES = ("weak 1", "weak 2", "weak 2 without communication", "strong 2", "strong 2 without communication")
LIMIT = 120  # seconds for real processes, which do nothing slowly but load PyTorch
TIMEOUT, TOLD, SLACK = 4, 10, 20  # seconds: asked for, those after it in which a run has ended, and for a busy machine


def gathered(**seconds):
    """Give three groups of three equal rounds; of two processes, the second is slower."""
    groups = {name: [[seconds[name.replace(" ", "_")]] * 3] * 3 for name in NAMES}
    ranks = {
        name: [[value * factor for group in groups[name] for value in group] for factor in (0.9, 1.0)] for name in NAMES
    }
    ranks["weak 1"] = ranks["weak 1"][1:]
    return Gathered(PairedSamples(groups, "budget"), ranks)


SAMPLES = gathered(
    weak_1=0.08,
    weak_2=0.1,
    weak_2_without_communication=0.09,
    strong_2=0.05,
    strong_2_without_communication=0.04,
)


def document(samples=SAMPLES):
    alone, weak, strong = arms_of(CASE, [1, 2])
    records = tuple(record_of(arm, alone, samples) for arm in (alone, weak, strong))
    facts = {"suite": "scaling", "planned": 3, "environment": {"world_size": 2, "backend": "gloo"}}
    return document_of(Run(cases=records, **facts))


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
    assert "| lenet5 | weak | 2 | 8 |" in run_markdown("one", parse_document(document()))


class Pair:
    """Be the first of two processes, the second of which takes twice as long and decides nothing."""

    rank, size = 0, 2

    def __init__(self):
        self.meetings = 0

    def barrier(self):
        self.meetings += 1

    def all_gather(self, own):
        if not isinstance(own, dict):
            return [own, own]
        return [own, {name: [2 * one for one in taken] for name, taken in own.items() if name != "weak 1"}]

    def broadcast(self, value):
        return value


def test_a_round_takes_as_long_as_its_slowest_process_and_all_meet_before_it():
    communicator, clock, schedule = Pair(), ScriptedClock(0.01), Schedule(budget=0.1, least_groups=2, settled_groups=3)
    steps = {name: ScriptedSubject() for name in ("weak 1", "weak 2")}
    found = sample_ranks(steps, "weak 1", communicator, clock, schedule)
    assert found.together.latency("weak 2").value == pytest.approx(0.02)
    assert found.together.ratio("weak 1", "weak 2").value == pytest.approx(0.5)
    assert [len(ranks) for ranks in found.ranks.values()] == [1, 2]
    assert communicator.meetings == sum(step.events.count("run") for step in steps.values())


def test_a_process_without_a_part_meets_the_others_all_the_same():
    communicator, clock, schedule = Pair(), ScriptedClock(0.01), Schedule(budget=0.1, least_groups=2)
    steps = {"weak 1": None, "weak 2": ScriptedSubject()}
    communicator.all_gather = lambda own: (
        [{**own, "weak 1": own["weak 2"]}, own] if isinstance(own, dict) else [own, own]
    )
    sample_ranks(steps, "weak 1", communicator, clock, schedule)
    assert communicator.meetings == 2 * steps["weak 2"].events.count("run")


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
        (["lenet5", "--threads", "9999"], "cores"),
    ],
)
def test_a_bad_argument_is_one_sentence_before_the_processes_meet(arguments, said):
    with pytest.raises(OptionError, match=said) as raised:
        request_of(parser().parse_args(arguments), Place(0, 2, 0, 2))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("option", ["--runs", "--out"])
def test_a_url_is_no_place_for_a_run(option, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["lenet5", option, "s3://bucket/runs"])
    assert "a path on this machine is needed, not 's3://bucket/runs'" in capsys.readouterr().err


WORLD = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "1",
}


def test_a_process_knows_its_place():
    assert Place.here(WORLD) == Place(0, 2, 0, 2)


@pytest.mark.parametrize("changed", [{"RANK": ""}, {"WORLD_SIZE": "x"}, {"MASTER_ADDR": ""}])
def test_without_torchrun_it_says_how_to_start_it(monkeypatch, capsys, changed):
    for name, value in (WORLD | changed).items():
        monkeypatch.setenv(name, value)
    assert main(["lenet5"]) == 2
    assert "torchrun --standalone --nproc-per-node 2 -m cnnperf.scaling" in capsys.readouterr().err


def test_only_a_step_with_communication_communicates(tmp_path):
    pair = ranks.Together(2, tmp_path)
    try:
        for steps, silent in pair(ranks.exchanges, 2):
            assert steps == [(1, True)] * 4
            assert silent == [(0, False)] * 3
    finally:
        pair.close()


PEOPLE = [("one", 10), ("one", 11), ("two", 12)]


class Watched:
    """Be the monitor of a process among three, whose signs and clock are scripted."""

    def __init__(self, rank=0, timeout=60.0):
        self.monitor, self.now, self.counts = HeartbeatMonitor(rank, PEOPLE, timeout), 0.0, [0, 0, 0]
        self.states = [FINE, FINE, FINE]

    def after(self, seconds, living=(0, 1, 2)):
        """Let time pass in beats in which these processes show signs; return what the monitor says at the last."""
        for _ in range(int(seconds / BEAT)):
            self.now += BEAT
            for rank in living:
                self.counts[rank] += 1
            signs = [f"{count} {state}" for count, state in zip(self.counts, self.states, strict=True)]
            told = self.monitor.look(signs, self.now)
            if told is not None:
                return told
        return None


def test_while_all_show_signs_of_life_nothing_ends():
    assert Watched().after(600) is None


def test_a_process_without_a_sign_for_the_timeout_is_lost():
    watched = Watched(timeout=60)
    assert watched.after(1) is None
    assert watched.after(59, living=(0, 2)) is None
    assert watched.after(3, living=(0, 2)) == "process 1 (pid 11 on one) died or does not answer"
    assert watched.monitor.lost(watched.now) == [1]


def test_who_is_asked_to_end_finds_within_seconds_which_process_is_gone():
    watched = Watched(timeout=60)
    watched.after(1)
    watched.monitor.ask_to_end()
    assert watched.after(10, living=(0, 1)) == "process 2 (pid 12 on two) died or does not answer"
    assert watched.now < 6


def test_the_first_process_that_is_left_tells_it_for_all():
    watched = Watched(rank=1)
    watched.after(1)
    watched.monitor.ask_to_end()
    assert watched.after(10, living=(0, 1)) == ""
    alone = Watched(rank=1)
    alone.after(1)
    alone.monitor.ask_to_end()
    assert alone.after(10, living=(1, 2)) == "process 0 (pid 10 on one) died or does not answer"


def test_who_ends_of_itself_has_told_why_and_the_others_are_silent():
    watched = Watched()
    watched.states[2] = ENDED
    assert watched.after(1) == ""


def test_who_is_asked_to_end_while_all_live_says_so():
    watched = Watched()
    watched.monitor.ask_to_end()
    assert watched.after(10) == "ended by SIGTERM from torchrun or the user"


def test_who_waits_in_vain_for_a_process_that_lives_names_it():
    watched = Watched(timeout=4)
    watched.states[1] = LOST  # it has waited in vain too
    watched.monitor.state = LOST
    assert watched.after(10) == (
        "process 2 (pid 12 on two): busy for more than 4 s; raise --timeout if a step may take so long"
    )


def test_who_waits_in_vain_tells_it_though_it_is_not_the_first():
    watched = Watched(rank=1, timeout=4)
    watched.states[2] = watched.monitor.state = LOST
    assert watched.after(10).startswith("process 0 (pid 10 on one): busy for more than 4 s")
    watched = Watched(rank=2, timeout=4)
    watched.states[1] = watched.monitor.state = LOST
    assert watched.after(10) == ""


def test_a_connection_that_breaks_while_all_live_is_told_with_its_cause():
    watched = Watched()
    watched.states = [LOST, LOST, LOST]
    watched.monitor.state, watched.monitor.cause = LOST, "it broke"
    assert "though all processes run: it broke" in watched.after(10)


def start(folder, *arguments, processes=2):
    """Start processes that train, from a folder without this project."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
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
    ("rank", "how"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGSTOP)]
)
def test_a_process_that_is_lost_ends_the_run_and_what_was_measured_is_kept(tmp_path, rank, how):
    process = start(
        tmp_path, "lenet5", "resnet18", "--batch", "2", "--time", "0.1", "--interval", "1%", "--timeout", str(TIMEOUT)
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
        output, _ = process.communicate(timeout=TIMEOUT + TOLD + SLACK)
        assert process.returncode == 1
        assert f"process {rank} (pid {pids[rank]} on {platform.node()}) died or does not answer" in output
        assert str(journals[0]) in output
        assert not any(lives(pid) for pid in pids.values())
        assert set(load_runs(tmp_path / "runs")["architecture"]) == {"lenet5"}
        assert json.loads(journals[0].read_text().splitlines()[0])["cnnperf"]["planned"] == 6
    finally:
        for pid in pids.values():
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        process.kill()


def test_one_process_alone_is_measured_too(tmp_path):
    process = start(tmp_path, "lenet5", "--batch", "2", "--time", "0.02", processes=1)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    assert set(load_runs(tmp_path / "runs")["world_size"]) == {1}


def test_what_the_first_process_refuses_ends_all(tmp_path):
    (tmp_path / "runs").touch()
    process = start(tmp_path, "lenet5")
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert said.count("runs cannot be saved there") == 1
