"""Prepare pytest and pytest-benchmark for this suite."""

import pytest

from cnnperf.suite.plugin import configure_pytest_benchmark, options_of
from cnnperf.suite.replay import Replay

STUDIES = ("test_depth.py", "test_gradient_flow.py", "test_pooling.py", "test_squeeze_excitation.py")
ONLY_BY_NAME = ("test_se_fusion.py", "test_scaling.py", *STUDIES)
SCALING_KEY = pytest.StashKey()
RATIOS_KEY = pytest.StashKey()
REPLAY = Replay()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    configure_pytest_benchmark(config)
    if any(_named(config, name) for name in STUDIES):  # no cases of cnnperf, so that its summary has nothing of them
        config.option.benchmark_quiet = False
    config.stash[SCALING_KEY], config.stash[RATIOS_KEY] = [], {}
    # A network that warns is still measured; only the project's own tests turn warnings into errors.
    for line in ("default", "ignore:.*torch.jit.script_method", "ignore:Benchmark fixture was not used"):
        config.addinivalue_line("filterwarnings", line)


def pytest_ignore_collect(collection_path, config):
    """Leave the benchmarks of fusions, of several processes and of the studies out unless their file is named."""
    name = collection_path.name
    return True if name in ONLY_BY_NAME and not _named(config, name) else None


def _named(config, name):
    return any(name in str(argument) for argument in config.invocation_params.args)


def pytest_collection_modifyitems(items):
    """Have the samples of studies replayed, which were taken side by side before."""
    for item in items:
        if item.path.name in STUDIES:
            item.add_marker(pytest.mark.benchmark(timer=REPLAY))


class Call:
    """A function whose calls are sampled beside those of others; it begins anew each time and has no addresses."""

    def __init__(self, make):
        """Take a function that prepares a call and returns it."""
        self._make, self._call, self.result = make, None, None

    def setup(self):
        """Prepare the call."""
        self._call = self._make()

    def run(self):
        """Make the call."""
        self.result = self._call()

    def relocate(self):
        """Do nothing: each call prepares data of its own."""


@pytest.fixture(scope="session")
def side_by_side(request):
    """Return a function that samples the sides of a comparison in turns, once for all of their tests."""
    import torch

    from cnnperf.measure.clock import clock_for
    from cnnperf.measure.paired import sample_together

    sampled = {}

    def sample(comparison, sides):
        if comparison not in sampled:
            calls = {name: Call(make) for name, make in sides.items()}
            together = sample_together(calls, clock_for(torch.device("cpu")), options_of(request.config).schedule())
            sampled[comparison] = together, {name: call.result for name, call in calls.items()}
        return sampled[comparison]

    return sample


@pytest.fixture
def benchmark_side(request, benchmark, side_by_side):
    """Return a function that hands the samples of one side to pytest-benchmark, and returns the side's last result."""

    def measure(comparison, sides, side):
        together, results = side_by_side(comparison, sides)
        base = next(iter(sides))
        if side != base:
            ratio = together.ratio(side, base)
            benchmark.extra_info[f"over {base}"] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
            request.config.stash[RATIOS_KEY][f"{comparison}: {side} / {base}"] = ratio
        seconds = [second for turn in together.groups[side] for second in turn]
        REPLAY.load(seconds)
        benchmark.pedantic(lambda: None, rounds=len(seconds))
        return results[side]

    return measure


@pytest.fixture
def benchmark_epoch(benchmark, benchmark_side):
    """Time one epoch of training of one side of a study, with a new network each round."""
    from dataclasses import replace
    from functools import partial

    from cnnperf.models.initialization import seeded
    from cnnperf.studies.digits import split_digits
    from cnnperf.studies.training import train

    def measure(contrast, side):
        recipe = replace(contrast.recipe, epochs=1)
        split = split_digits(0, recipe.image_size)

        def prepare(build):
            with seeded(0):
                return partial(train, build(), split, recipe, 0)

        names = contrast.base, contrast.candidate
        sides = {name: partial(prepare, build) for name, build in zip(names, contrast.builds, strict=True)}
        found = benchmark_side(contrast.name, sides, names[side])
        benchmark.extra_info["accuracy"] = found.accuracy
        assert found.validation

    return measure


@pytest.fixture(scope="session")
def scaling_run(request, tmp_path_factory):
    """Train on two processes, and return the run file that the first of them writes."""
    import os
    import subprocess
    import sys

    from cnnperf.records.files import read_run

    out = tmp_path_factory.mktemp("scaling") / "run.json"
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    asked = _asked_of_scaling(options_of(request.config))
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # what torchrun would set, with a warning
    run = [*command, "-m", "cnnperf.scaling", *asked, "--out", out]
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():  # its progress
        done = subprocess.run(run, check=False, env=environment)  # noqa: S603 - ours
    if done.returncode:
        pytest.exit(f"training on two processes ended with status {done.returncode}; why is said above", returncode=2)
    request.config.stash[SCALING_KEY].append(read_run(out))
    return request.config.stash[SCALING_KEY][0]


def _asked_of_scaling(options):
    """Return the arguments for the options of the suite, of which some mean nothing to several processes."""
    from cnnperf.scaling.arguments import DEFAULT
    from cnnperf.suite.plan import parse_overrides

    axes = parse_overrides(options.axes)
    unknown = sorted(axes.keys() - {"batch", "threads"}) + [name for name, values in axes.items() if len(values) > 1]
    if unknown or len(options.devices) > 1:
        named = ", ".join(unknown) or "several devices"
        pytest.exit(f"several processes take one device, batch and number of threads, not {named}", returncode=4)
    seconds = 0.05 if options.suite == "smoke" else options.seconds
    chosen = [text for name, (value,) in axes.items() for text in (f"--{name}", str(value))]
    given = ("--device", options.devices[0], "--time", str(seconds), "--interval", str(options.interval))
    return *(options.patterns or DEFAULT), *given, *chosen


@pytest.hookimpl(trylast=True)
def pytest_benchmark_update_json(config, output_json):
    """Write the facts of the scaling run into the file of a run without other cases."""
    from cnnperf.records.encoding import facts_of

    for run in config.stash[SCALING_KEY]:
        output_json.setdefault("cnnperf", facts_of(run))


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[RATIOS_KEY]:
        from cnnperf.report.cases import factor_text

        terminalreporter.section("side by side", sep="=")
        for name, ratio in config.stash[RATIOS_KEY].items():
            terminalreporter.write_line(f"{name} {factor_text(ratio)}, {ratio.rounds} cycles")
    if config.stash[SCALING_KEY]:
        from cnnperf.report.scaling import scaling_lines

        terminalreporter.section("scaling", sep="=")
        for line in scaling_lines(config.stash[SCALING_KEY][0]):
            terminalreporter.write_line(line)
