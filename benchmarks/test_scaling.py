"""Training on one and two processes with DistributedDataParallel, as `torchrun -m cnnperf.scaling` does it.

Named alone, because it starts processes of its own: `pytest benchmarks/test_scaling.py`.
"""

import pytest

from cnnperf.suite.plugin import OPTIONS_KEY
from cnnperf.suite.replay import Replay

REPLAY = Replay()
ARMS = {"alone": (1, ""), "weak": (2, "weak_efficiency"), "strong": (2, "strong_efficiency")}
pytestmark = pytest.mark.benchmark(timer=REPLAY)


def pytest_generate_tests(metafunc):
    from cnnperf.models.catalog import match
    from cnnperf.scaling.arguments import DEFAULT

    patterns = metafunc.config.stash[OPTIONS_KEY].patterns or DEFAULT
    metafunc.parametrize("architecture", [row.name for pattern in patterns for row in match(pattern)])


@pytest.mark.parametrize("arm", ARMS)
def test_scaling(architecture, arm, benchmark, scaling_run):
    size, metric = ARMS[arm]
    records = [one for one in scaling_run["benchmarks"] if one["params"]["architecture"] == architecture]
    missing = [one for one in scaling_run["cnnperf"]["not_measured"] if one["axes"]["architecture"] == architecture]
    if missing:
        pytest.skip(f"not measured: {missing[0]['reason']}")
    (record,) = [one for one in records if _is(one, size, metric)]
    benchmark.extra_info.update(record["extra_info"])
    REPLAY.load(record["stats"]["data"])
    benchmark.pedantic(lambda: None, rounds=len(record["stats"]["data"]))


def _is(record, size, metric):
    return record["params"]["world_size"] == size and (not metric or metric in record["extra_info"]["metrics"])
