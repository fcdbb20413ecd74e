"""The plugin, in pytest sessions of its own."""

import json
import subprocess
import sys

import pytest

import cnnperf

pytestmark = pytest.mark.slow

SUITE = """
    import pytest

    @pytest.mark.cnnperf("lenet5", "lenet5_avg")
    def test_lenet(cnnperf_case, cnnperf_measure):
        cnnperf_measure(cnnperf_case)

    @pytest.mark.cnnperf(own=True)
    def test_own(cnnperf_case, cnnperf_measure):
        cnnperf_measure(cnnperf_case)
"""
CONFTEST = """
    import pytest
    from cnnperf.suite.plugin import configure_pytest_benchmark

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(config):
        configure_pytest_benchmark(config)
"""
QUICK = (
    "--cnnperf-suite=smoke",
    "--cnnperf-axis=engine=eager",
    "--cnnperf-axis=batch=2",
    "--cnnperf-device=cpu",
    "-p",
    "no:cacheprovider",
)
PATIENCE = 300  # seconds; a hang is a failure


@pytest.fixture
def suite(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_suite=SUITE)
    return pytester


def run(suite, *arguments):
    return suite.runpytest_subprocess(*QUICK, *arguments, timeout=PATIENCE)


def saved(suite):
    (path,) = (suite.path / ".benchmarks").rglob("*.json")
    return json.loads(path.read_text())


HOOK = """

    def pytest_benchmark_update_json(output_json):
        print("seen:", *("latency" in one["extra_info"]["metrics"] for one in output_json["benchmarks"]))
        for one in output_json["benchmarks"]:
            one["extra_info"]["note"] = "kept"
"""


def test_a_run_is_saved_with_samples_and_read_back(suite):
    suite.makeconftest(CONFTEST + HOOK)  # a hook of a conftest runs before that of the plugin
    result = run(suite, "--cnnperf-architecture=lenet5", "--benchmark-autosave")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*seen: True True True*"])
    document = saved(suite)
    assert document["cnnperf"]["environment"]["torch"]
    assert "hz_actual" not in document["machine_info"]["cpu"]
    for benchmark in document["benchmarks"]:
        record = benchmark["extra_info"]
        assert len(benchmark["stats"]["data"]) == sum(record["groups"]) == 3
        assert record["axes"]["batch"] == 2
        assert record["note"] == "kept"
        assert "UNSERIALIZABLE" not in json.dumps(benchmark["params"])
    frame = cnnperf.load_runs(suite.path / ".benchmarks")
    latency = frame[frame.metric == "latency"]
    assert sorted(latency.phase) == ["backward", "forward", "train"]
    samples = cnnperf.load_samples(suite.path / ".benchmarks")
    assert len(samples) == 9
    medians = samples.groupby("phase").seconds.median()
    assert latency.set_index("phase").value.to_dict() == pytest.approx(medians.to_dict())


def test_several_batches_are_a_sweep_in_the_summary(suite):
    more = ("--cnnperf-axis=batch=1,4", "--cnnperf-axis=phase=forward", "--benchmark-autosave")
    result = run(suite, "--cnnperf-architecture=lenet5", *more)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["Sweeps (gain: *", "lenet5 forward cpu over batch", "*eager: *knee*batch*"])
    assert len(saved(suite)["benchmarks"]) == 3


def test_a_finished_run_leaves_no_journal(suite):
    run(suite, "--cnnperf-architecture=lenet5", "--benchmark-autosave")
    assert not list(suite.path.rglob("*.journal.jsonl"))


def test_without_saving_nothing_is_written(suite):
    run(suite, "--cnnperf-architecture=lenet5", "--cnnperf-axis=phase=forward").assert_outcomes(passed=1)
    assert not list((suite.path / ".benchmarks").rglob("*.json*"))


def test_a_crash_leaves_every_finished_case_on_disk(suite):
    suite.makepyfile(test_suite=SUITE, test_z_crash="import os\n\ndef test_crash():\n    os._exit(3)\n")
    result = run(suite, "--cnnperf-architecture=lenet5", "--benchmark-autosave")
    assert result.ret == 3
    assert not list(suite.path.rglob("*_*.json"))
    frame = cnnperf.load_runs(suite.path / ".benchmarks")
    assert sorted(frame[frame.metric == "latency"].phase) == ["backward", "forward", "train"]


def test_ctrl_c_saves_what_was_finished(suite):
    interrupting = "def test_stop():\n    raise KeyboardInterrupt\n"
    suite.makepyfile(test_suite=SUITE, test_z_stop=interrupting)
    run(suite, "--cnnperf-architecture=lenet5", "--benchmark-autosave")
    assert len(saved(suite)["benchmarks"]) == 3


def test_progress_and_summary_are_on_the_terminal(suite):
    result = run(suite, "--cnnperf-architecture=lenet5")
    result.stdout.re_match_lines([r"\[1/3\] lenet5 forward cpu eager batch 2 .*images/s.*2 left.*"])
    result.stdout.fnmatch_lines(["*= cnnperf =*", "lenet5, batch 2*", "  forward *"])
    body = result.stdout.str().split("= cnnperf =")[1]
    assert max(map(len, body.splitlines())) <= 100


def test_a_network_of_the_user_is_measured_like_the_rest(suite):
    suite.makepyfile(
        mine="from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))\n"
    )
    result = suite.runpytest_subprocess(
        *QUICK, "--cnnperf-architecture=mine:make", "--benchmark-json=out.json", timeout=PATIENCE
    )
    result.assert_outcomes(passed=3)
    document = json.loads((suite.path / "out.json").read_text())
    metrics = document["benchmarks"][0]["extra_info"]["metrics"]
    assert metrics["parameters"]["value"] == 3072 * 7 + 7


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("nn.Identity()", "*mine:make has no parameters*"),
        ("nn.Linear(7, 7)", "*mine:make fails on images of shape (2, 3, 32, 32)*"),
    ],
)
def test_a_network_that_cannot_be_measured_is_refused_before_anything_runs(suite, network, message):
    suite.makepyfile(mine=f"from torch import nn\ndef make():\n    return {network}\n")
    result = run(suite, "--cnnperf-architecture=mine:make")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_case_that_cannot_run_stays_in_the_run_with_its_reason(suite):
    result = run(
        suite,
        "--cnnperf-architecture=lenet5",
        "--cnnperf-axis=precision=fp32,tf32",
        "--cnnperf-axis=phase=forward",
        "--benchmark-autosave",
    )
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*tf32: TF32 is a mode of CUDA's matrix units*"])
    frame = cnnperf.load_runs(suite.path / ".benchmarks")
    (reason,) = frame[frame.precision == "tf32"].reason
    assert reason.startswith("tf32: TF32 is a mode")


def test_a_machine_without_cuda_says_so_in_one_line(suite):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    result = suite.runpytest_subprocess(
        *[text for text in QUICK if "device" not in text], "--cnnperf-architecture=lenet5", timeout=PATIENCE
    )
    result.assert_outcomes(passed=3)
    assert sum("no CUDA device" in line for line in result.outlines) == 1


def test_a_wrong_network_fails_its_test_and_is_not_saved(suite):
    text = (
        "from torch import nn\nclass Make(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.linear = nn.Linear(3072, 7)\n    def forward(self, images):\n"
        "        return self.linear(images.flatten(1)) * float('nan')\n"
    )
    suite.makepyfile(mine=text)
    result = run(suite, "--cnnperf-architecture=mine:Make", "--benchmark-autosave")
    result.assert_outcomes(failed=3)
    assert not list(suite.path.rglob("*_*.json"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--cnnperf-architecture=lenet6", "*ERROR*did you mean 'lenet5'*"),
        ("--cnnperf-axis=batch=0", "*ERROR*at least 1, not '0'*"),
        ("--cnnperf-axis=engine=warp", "*ERROR*one of eager, compile*"),
        ("--cnnperf-device=tpu", "*ERROR*takes auto, cpu, cuda or cuda:N*"),
    ],
)
def test_a_bad_option_ends_with_status_4_before_anything_runs(suite, argument, message):
    result = suite.runpytest_subprocess(argument, timeout=PATIENCE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR == 4
    result.stderr.fnmatch_lines([message])
    assert len(result.errlines) == 1 or "Traceback" not in result.stderr.str()


def test_an_option_in_the_ini_file_counts(suite):
    suite.makeini(
        "[pytest]\ncnnperf_suite = smoke\ncnnperf_architecture = lenet5\ncnnperf_axis = batch=2 phase=train\n"
    )
    result = suite.runpytest_subprocess("--collect-only", "-q", timeout=PATIENCE)
    lines = [line for line in result.outlines if "arch=" in line]
    assert len(lines) == 2
    assert all("phase=train" in line and "batch=2" in line for line in lines)


def test_help_lists_every_option():
    command = [sys.executable, "-m", "pytest", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    for name in ("device", "architecture", "axis", "suite", "time", "interval", "input", "cpu-allocator"):
        assert f"--cnnperf-{name}" in text


def test_disabled_benchmarks_are_checked_and_said_not_to_be_measured(suite):
    result = run(suite, "--cnnperf-architecture=lenet5", "--benchmark-disable")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*nothing was measured: pytest-benchmark is disabled*"])


def test_pytest_elsewhere_loads_neither_torch_nor_pandas(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_light():
            assert "cnnperf.suite.plugin" in sys.modules
            assert not {"torch", "pandas", "numpy", "scipy"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=PATIENCE).assert_outcomes(passed=1)


def test_a_skipped_module_beside_others_ends_like_any_run(pytester):
    pytester.makepyfile(test_missing="import pytest\npytest.importorskip('no_such_package')")
    pytester.makepyfile(test_light="def test_light(): pass")
    pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=PATIENCE).assert_outcomes(passed=1, skipped=1)


def test_the_replay_gives_back_each_sample_exactly():
    from cnnperf.suite.replay import Replay

    replay = Replay()
    replay.load([0.1, 0.2, 0.3])
    differences = []
    for _ in range(3):
        start = replay()
        differences.append(replay() - start)
    assert differences == [0.1, 0.2, 0.3]


FORWARD = ("--cnnperf-architecture=lenet5", "--cnnperf-axis=phase=forward", "--benchmark-autosave")


def test_a_case_is_timed_in_several_processes_and_their_medians_are_saved(suite):
    run(suite, *FORWARD, "--cnnperf-processes=3").assert_outcomes(passed=1)
    (record,) = saved(suite)["benchmarks"]
    seconds = record["extra_info"]["processes"]
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert seconds[0] == record["extra_info"]["metrics"]["latency"]["value"]


def plant(suite, factor, **facts):
    """Change the saved run into one whose processes took `factor` times as long."""
    (path,) = (suite.path / ".benchmarks").rglob("*.json")
    document = json.loads(path.read_text())
    extra = document["benchmarks"][0]["extra_info"]
    extra["processes"] = [factor * seconds for seconds in extra.get("processes", ())]
    document["cnnperf"] |= facts
    path.write_text(json.dumps(document))


def later_runs(suite):
    return [json.loads(path.read_text()) for path in sorted((suite.path / ".benchmarks").rglob("0002_*.json"))]


BASELINE = "--cnnperf-baseline=latest"
COMPARED = (BASELINE, "--cnnperf-fail-over=5%", "--cnnperf-processes=3")


def test_a_run_slower_than_its_baseline_fails_and_never_becomes_the_next_one_by_itself(suite):
    run(suite, *FORWARD, "--cnnperf-processes=3")
    plant(suite, 1e-3)
    result = run(suite, *FORWARD, *COMPARED)
    assert result.ret == 1
    result.stdout.re_match_lines([r".*1 slower.*"])
    (second,) = later_runs(suite)
    assert "0001" in second["cnnperf"]["regressed"]
    run(suite, *FORWARD, BASELINE).stdout.re_match_lines([r"this run .* against 0001_.*"])


def test_a_run_faster_than_its_baseline_is_fine(suite):
    run(suite, *FORWARD, "--cnnperf-processes=3")
    plant(suite, 1e3)
    result = run(suite, *FORWARD, *COMPARED)
    assert result.ret == 0
    result.stdout.re_match_lines([r".*1 faster.*"])
    assert later_runs(suite)[0]["cnnperf"].get("regressed") is None


def test_one_process_a_side_cannot_tell_and_does_not_pass_for_fine(suite):
    run(suite, *FORWARD)
    result = run(suite, *FORWARD, BASELINE, "--cnnperf-fail-over=5%")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*cannot separate code from process*"])


def test_a_case_that_the_run_lacks_is_gone_and_does_not_pass_for_fine(suite):
    run(suite, "--cnnperf-architecture=lenet5", "--benchmark-autosave")
    result = run(suite, *FORWARD, BASELINE, "--cnnperf-fail-over=5%")
    assert result.ret == 3
    result.stdout.re_match_lines([r".*2 gone.*"])


def test_an_unlike_machine_is_refused_before_anything_is_measured(suite):
    run(suite, *FORWARD)
    plant(suite, 1, environment={"cpu_model": "Abacus"})
    result = run(suite, *FORWARD, *COMPARED)
    assert result.ret == 2
    result.stdout.re_match_lines([r".*unlike environments.*cpu_model 'Abacus' and .*"])
    assert not later_runs(suite)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cnnperf-fail-over=5%",), "--cnnperf-fail-over needs --cnnperf-baseline"),
        (("--cnnperf-baseline=latest",), "latest: no such file or folder"),
        (("--cnnperf-baseline=x.json",), "x.json: no such file or directory"),
        (("--cnnperf-baseline=.", "--cnnperf-fail-over=0"), "--cnnperf-fail-over takes a percentage"),
        (("--cnnperf-processes=0",), "--cnnperf-processes takes a whole number from 1"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_one_sentence_before_anything_runs(suite, arguments, message):
    result = run(suite, *FORWARD, *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {message}*"])


def test_shards_share_out_the_suite_by_the_durations_of_a_run(suite):
    both = ("--cnnperf-architecture=lenet5", "--cnnperf-architecture=lenet5_avg")
    run(suite, *both, "--benchmark-json=whole.json").assert_outcomes(passed=6)
    whole = json.loads((suite.path / "whole.json").read_text())
    assert all(one["extra_info"]["seconds"] > 0 for one in whole["benchmarks"])
    names = []
    (suite.path / "shards").mkdir()
    for number in (1, 2):
        shard = (*both, f"--cnnperf-shard={number}/2", "--cnnperf-durations=whole.json")
        passed = run(suite, *shard, f"--benchmark-json=shards/{number}.json").parseoutcomes()["passed"]
        assert 1 <= passed < 6
        part = json.loads((suite.path / "shards" / f"{number}.json").read_text())
        assert part["cnnperf"]["shard"] == f"{number}/2"
        names += [one["name"] for one in part["benchmarks"]]
    assert sorted(names) == sorted(one["name"] for one in whole["benchmarks"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--cnnperf-shard=6/5"], "--cnnperf-shard takes the number of a shard"),
        (["--cnnperf-durations=latest"], "--cnnperf-durations needs --cnnperf-shard"),
        (["--cnnperf-shard=1/2", "--cnnperf-durations=none.json"], "none.json: no such file"),
    ],
)
def test_a_shard_that_cannot_be_is_refused_before_anything_is_measured(suite, given, told):
    result = run(suite, *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str()
