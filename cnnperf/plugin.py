"""Public names for the conftest of a suite of benchmarks: `from cnnperf.plugin import configure_pytest_benchmark`."""

from cnnperf.suite.collection import is_named
from cnnperf.suite.plugin import configure_pytest_benchmark, options_of

__all__ = ["configure_pytest_benchmark", "is_named", "options_of"]
