"""Prepare pytest and pytest-benchmark for this suite."""

import pytest

from cnnperf.plugin import OPTIONS_KEY, configure_pytest_benchmark

ONLY_BY_NAME = "test_se_fusion.py"
FUSION_KEY = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    configure_pytest_benchmark(config)
    config.stash[FUSION_KEY] = []
    # A network that warns is still measured; only the project's own tests turn warnings into errors.
    for line in ("default", "ignore:.*torch.jit.script_method", "ignore:Benchmark fixture was not used"):
        config.addinivalue_line("filterwarnings", line)


def pytest_ignore_collect(collection_path, config):
    """Leave the fusion benchmark out unless its file is named."""
    named = any(ONLY_BY_NAME in str(argument) for argument in config.invocation_params.args)
    return True if collection_path.name == ONLY_BY_NAME and not named else None


@pytest.fixture(scope="session")
def fusion_records(request):
    """Collect the records of the fusion benchmark for the table at the end."""
    from cnnperf.measure.allocator import apply_policy

    apply_policy(request.config.stash[OPTIONS_KEY].cpu_allocator)
    return request.config.stash[FUSION_KEY]


@pytest.hookimpl(trylast=True)
def pytest_benchmark_update_json(config, output_json):
    """Say in the file of a run without cases of the plugin what machine it was."""
    if config.stash[FUSION_KEY]:
        from cnnperf.measure.environment import read_environment

        options = config.stash[OPTIONS_KEY]
        environment = read_environment(cpu_allocator=options.cpu_allocator, input_kind=options.input_kind)
        output_json.setdefault("cnnperf", {"schema": 1, "suite": "fusion", "environment": environment})


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[FUSION_KEY]:
        from cnnperf.report.fusion import fusion_lines
        from cnnperf.runs.fusion import KEY, fusion_records

        terminalreporter.section("fusion", sep="=")
        benchmarks = [{"extra_info": {KEY: record}} for record in config.stash[FUSION_KEY]]
        for line in fusion_lines(list(fusion_records(benchmarks))):
            terminalreporter.write_line(line)
