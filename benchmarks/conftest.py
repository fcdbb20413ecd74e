"""Prepare pytest and pytest-benchmark for this suite."""

import pytest

from cnnperf.suite.plugin import configure_pytest_benchmark, options_of

STUDIES = ("test_depth.py", "test_gradient_flow.py", "test_pooling.py", "test_squeeze_excitation.py")
ONLY_BY_NAME = ("test_se_fusion.py", "test_scaling.py", *STUDIES)
SCALING_KEY = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    configure_pytest_benchmark(config)
    if any(_named(config, name) for name in STUDIES):  # no cases of cnnperf, so that its summary has nothing of them
        config.option.benchmark_quiet = False
    config.stash[SCALING_KEY] = []
    # A network that warns is still measured; only the project's own tests turn warnings into errors.
    for line in ("default", "ignore:.*torch.jit.script_method", "ignore:Benchmark fixture was not used"):
        config.addinivalue_line("filterwarnings", line)


def pytest_ignore_collect(collection_path, config):
    """Leave the benchmarks of fusions, of several processes and of the studies out unless their file is named."""
    name = collection_path.name
    return True if name in ONLY_BY_NAME and not _named(config, name) else None


def _named(config, name):
    return any(name in str(argument) for argument in config.invocation_params.args)


@pytest.fixture
def benchmark_epoch(benchmark):
    """Time one epoch of training of one side of a study, with a new network each round."""
    from dataclasses import replace

    from cnnperf.models.initialization import seeded
    from cnnperf.studies.digits import split_digits
    from cnnperf.studies.training import train

    def measure(contrast, side):
        recipe = replace(contrast.recipe, epochs=1)
        split = split_digits(0, recipe.image_size)

        def fresh():
            with seeded(0):
                return (contrast.builds[side](), split, recipe, 0), {}

        found = benchmark.pedantic(train, setup=fresh, rounds=3, warmup_rounds=1)
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
    if config.stash[SCALING_KEY]:
        from cnnperf.report.scaling import scaling_lines

        terminalreporter.section("scaling", sep="=")
        for line in scaling_lines(config.stash[SCALING_KEY][0]):
            terminalreporter.write_line(line)
