"""The networks that `cnnperf run` is given."""

from collections.abc import Callable

import pytest

from cnnperf.records.case import Case


@pytest.mark.cnnperf("*", own=True)
def test_networks(cnnperf_case: Case, cnnperf_measure: Callable[[Case], None]) -> None:
    """Measure one case."""
    cnnperf_measure(cnnperf_case)
