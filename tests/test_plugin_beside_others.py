"""The plugin in repositories with fixtures, marks and networks of their own."""

import json

import pytest
from test_plugin import CONFTEST, QUICK, SUITE, run

pytestmark = pytest.mark.slow

DEVICE_FIXTURE = """
    @pytest.fixture(params=["cpu", "meta"])
    def device(request):
        return request.param
"""
DEVICE_BY_ANOTHER_NAME = """
    @pytest.fixture
    def device(device_name):
        return device_name

    def pytest_generate_tests(metafunc):
        if "device_name" in metafunc.fixturenames:
            metafunc.parametrize("device_name", ["cpu", "meta"])
"""
NETWORKS = """
    from torch import nn

    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))

    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3 * 32 * 32, 5)

        def forward(self, x):
            return self.linear(x.flatten(1)) * float("nan")

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 5)

        def forward(self, x):
            return self.linear(self.norm(x.mean((2, 3))))
"""
ONE = ("--cnnperf-axis=phase=forward", "--cnnperf-architecture=lenet5")


@pytest.mark.parametrize("fixture", [DEVICE_FIXTURE, DEVICE_BY_ANOTHER_NAME])
@pytest.mark.parametrize("name", ["device", "batch", "phase"])
def test_a_fixture_with_the_name_of_an_axis_stays_the_user_s(suite, fixture, name):
    fixture = fixture.replace("device", name)
    suite.makeconftest(CONFTEST + fixture)
    suite.makepyfile(test_theirs=f"def test_theirs({name}):\n    assert {name} in ('cpu', 'meta')\n")
    result = run(suite, *ONE, "--collect-only", "-q")
    assert sum("test_lenet[" in line for line in result.outlines) == 1
    assert sum("test_theirs[" in line for line in result.outlines) == 2
    result = run(suite, "--cnnperf-architecture=lenet5_avg", "test_theirs.py")
    result.assert_outcomes(passed=2)


@pytest.fixture
def suite(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_suite=SUITE, mine=NETWORKS)
    return pytester


def test_a_fixture_of_the_user_s_may_be_used_beside_the_case(suite):
    suite.makeconftest(CONFTEST + DEVICE_FIXTURE.replace('["cpu", "meta"]', '["here", "there"]'))
    suite.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.cnnperf("lenet5")
        def test_lenet(device, cnnperf_case, cnnperf_measure):
            assert device in ("here", "there")
            cnnperf_measure(cnnperf_case)
        """
    )
    result = run(suite, *ONE, "--benchmark-json=out.json")
    result.assert_outcomes(passed=2)
    benchmarks = json.loads((suite.path / "out.json").read_text())["benchmarks"]
    assert [one["params"]["device"] for one in benchmarks] == ["cpu", "cpu"]  # the axis, as in all run files
    assert benchmarks[0]["params"]["architecture"] == "lenet5"


def test_benchmarks_can_be_grouped_by_an_axis(suite):
    result = run(suite, *ONE, "--cnnperf-axis=batch=3", "--benchmark-group-by=param:batch", "--benchmark-verbose")
    result.assert_outcomes(passed=2)
    assert result.ret == 0


def test_expected_failures_count_as_such(suite):
    suite.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.xfail(reason="gives NaN", strict=False)
        @pytest.mark.cnnperf(own=True)
        def test_own(cnnperf_case, cnnperf_measure):
            cnnperf_measure(cnnperf_case)

        @pytest.mark.xfail(reason="was wrong once", strict=False)
        @pytest.mark.cnnperf("lenet5")
        def test_catalog(cnnperf_case, cnnperf_measure):
            cnnperf_measure(cnnperf_case)
        """
    )
    result = run(suite, *ONE, "--cnnperf-architecture=mine:Broken")
    result.assert_outcomes(xfailed=1, xpassed=1)


def test_a_case_whose_network_raises_is_not_measured_and_the_others_are(suite):
    axes = ("--cnnperf-axis=batch=1", "--cnnperf-axis=phase=train")
    result = run(suite, "--cnnperf-architecture=mine:Pooled", *axes, "--benchmark-autosave")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*not measured: ValueError: Expected more than 1 value per channel*traceback in *"])
    (trace,) = (suite.path / ".benchmarks" / "tracebacks").iterdir()
    assert trace.read_text().rstrip().splitlines()[-1].startswith("ValueError: Expected more than 1 value per channel")
    (saved,) = (suite.path / ".benchmarks").rglob("*.json")
    (entry,) = json.loads(saved.read_text())["cnnperf"]["not_measured"]
    assert entry["axes"]["batch"] == 1
    assert "\n" not in entry["reason"]


def test_a_run_in_which_each_network_raises_has_failed(suite):
    quick = [text for text in QUICK if "batch" not in text]
    axes = ("--cnnperf-axis=batch=1", "--cnnperf-axis=phase=train")
    result = suite.runpytest_subprocess(*quick, "--cnnperf-architecture=mine:Pooled", *axes)
    result.assert_outcomes(skipped=1)
    assert result.ret == 1


def test_a_case_that_stands_twice_is_measured_twice_in_one_process(suite):
    suite.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.parametrize("repetition", [1, 2])
        @pytest.mark.cnnperf("lenet5")
        def test_lenet(cnnperf_case, cnnperf_measure, repetition):
            cnnperf_measure(cnnperf_case)
        """
    )
    result = run(suite, *ONE, "--benchmark-json=out.json")
    result.assert_outcomes(passed=2)
    assert len(json.loads((suite.path / "out.json").read_text())["benchmarks"]) == 2


def test_the_public_names_for_a_conftest_are_those_of_the_plugin():
    from cnnperf import plugin
    from cnnperf.suite.plugin import configure_pytest_benchmark, options_of

    assert plugin.configure_pytest_benchmark is configure_pytest_benchmark
    assert plugin.options_of is options_of


def test_a_network_that_raises_is_skipped_too_where_results_are_only_checked(suite):
    axes = ("--cnnperf-axis=batch=1", "--cnnperf-axis=phase=train")
    result = run(suite, "--cnnperf-architecture=mine:Pooled", *axes, "--benchmark-disable", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*not checked: ValueError: Expected more than 1 value per channel*"])
