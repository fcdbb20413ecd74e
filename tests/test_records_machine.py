"""Who is who: machines that compare, commits that are not known, and cases that stand several times in a run."""

import pytest
from documents import benchmark, document
from test_runs_comparison import TOLERANCE, only, runs_of

from cnnperf.errors import RunFileError
from cnnperf.records.machine import lasting_facts
from cnnperf.report.export import FORMATS
from cnnperf.runs import parse_document
from cnnperf.runs.comparison import compare_sides, differences
from cnnperf.runs.files import find_files
from cnnperf.runs.series import series_of

ENVIRONMENT = {"cpu_model": "Example", "cpu_count": 64, "affinity": "0,1", "torch": "2.13.0", "load_average": 0.1}


def test_the_number_of_cores_counts_and_not_which_a_scheduler_gave():
    assert lasting_facts(ENVIRONMENT) == {"cpu_model": "Example", "cpu_count": 64, "torch": "2.13.0", "cores": 2}
    assert differences(ENVIRONMENT, {**ENVIRONMENT, "affinity": "62,63", "CUDA_VISIBLE_DEVICES": "3"}) == {}
    assert differences(ENVIRONMENT, {**ENVIRONMENT, "affinity": "0,1,2"}) == {"cores": (2, 3)}


def test_a_cpu_quota_makes_another_machine():
    assert differences(ENVIRONMENT, {**ENVIRONMENT, "cpu_quota": 2.0}) == {"cpu_quota": (None, 2.0)}


def nightly(number, latency, **facts):
    environment = {**ENVIRONMENT, "affinity": f"{2 * number},{2 * number + 1}"}
    found = document(benchmark(latency=latency), environment=environment, **facts)
    return f"{number:04}", parse_document(found)


def test_nights_on_other_cores_are_one_series():
    (series,) = series_of([nightly(number, 1e-3) for number in range(6)], "latency")
    assert len(series.points) == 6


@pytest.mark.parametrize("word", ["unknown", "unversioned"])
def test_several_runs_of_commits_that_are_not_known_are_no_side(word):
    with pytest.raises(RunFileError, match="2 runs on one side whose commits are not known"):
        compare_sides(runs_of(1e-3, 1.1e-3, commit=word), runs_of(1e-3), TOLERANCE)
    assert only(compare_sides(runs_of(1e-3, commit=word), runs_of(1e-3), TOLERANCE)).verdict == "unsure"


def test_a_case_that_stands_several_times_in_a_run_is_one_process():
    repeated = []
    for commit, latencies in (("a", (1e-3, 1.01e-3, 0.99e-3)), ("b", (1.2e-3, 1.21e-3, 1.19e-3))):
        found = document(*(benchmark(latency=latency) for latency in latencies)) | {"commit_info": {"id": commit * 40}}
        repeated.append([("run", parse_document(found))])
    verdict = only(compare_sides(*repeated, TOLERANCE))
    assert (verdict.verdict, verdict.base_seconds) == ("unsure", 1e-3)
    assert "one process on a side" in verdict.reason
    (series,) = series_of(repeated[0], "latency")
    assert [point.value for point in series.points] == [1e-3]
    names = [line for line in FORMATS["github"](repeated[0]).decode().splitlines() if '"name"' in line]
    assert len(names) == len(set(names))


def test_hidden_copies_are_no_runs(tmp_path):
    for name in ("0001_a.json", "._0001_a.json", ".ipynb_checkpoints/0001_a-checkpoint.json", "x/.#0002_b.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert find_files(tmp_path) == [tmp_path / "0001_a.json"]


def test_the_storage_is_found_from_the_folder_that_contains_it(tmp_path):
    path = tmp_path / ".benchmarks" / "Linux" / "0001_a.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert find_files(tmp_path) == [path]
