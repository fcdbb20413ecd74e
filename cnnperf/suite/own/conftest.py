"""Settings of the suite that `cnnperf run` measures."""

import pytest

from cnnperf.suite.plugin import configure_pytest_benchmark


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Prepare pytest-benchmark."""
    configure_pytest_benchmark(config)
