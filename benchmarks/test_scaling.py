"""Training on one and two processes with DistributedDataParallel, as `torchrun -m cnnperf.scaling` does it.

Named alone, because it starts processes of its own: `pytest benchmarks/test_scaling.py`.
"""

import pytest

from cnnperf.records.encoding import extra_info
from cnnperf.suite.plugin import options_of
from cnnperf.suite.replay import Replay

REPLAY = Replay()
ARMS = {"alone": (1, ""), "weak": (2, "weak_efficiency"), "strong": (2, "strong_efficiency")}
pytestmark = pytest.mark.benchmark(timer=REPLAY)


def pytest_generate_tests(metafunc):
    from cnnperf.models.catalog import match
    from cnnperf.scaling.arguments import DEFAULT

    patterns = options_of(metafunc.config).patterns or DEFAULT
    metafunc.parametrize("architecture", [row.name for pattern in patterns for row in match(pattern)])


@pytest.mark.parametrize("arm", ARMS)
def test_scaling(architecture, arm, benchmark, scaling_run):
    size, metric = ARMS[arm]
    missing = [one for one in scaling_run.not_measured if one.axes["architecture"] == architecture]
    if missing:
        pytest.skip(f"not measured: {missing[0].reason}")
    records = [one for one in scaling_run.cases if one.case.architecture == architecture]
    (record,) = [one for one in records if one.case.world_size == size and (not metric or metric in one.values)]
    benchmark.extra_info.update(extra_info(record))
    seconds = [one for group in record.groups for one in group]
    REPLAY.load(seconds)
    benchmark.pedantic(lambda: None, rounds=len(seconds))
