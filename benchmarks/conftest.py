"""Prepare pytest and pytest-benchmark for this suite."""

import pytest

from cnnperf.plugin import configure_pytest_benchmark


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    configure_pytest_benchmark(config)
    # A network that warns is still measured; only the project's own tests turn warnings into errors.
    for line in ("default", "ignore:.*torch.jit.script_method", "ignore:Benchmark fixture was not used"):
        config.addinivalue_line("filterwarnings", line)
