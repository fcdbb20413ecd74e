"""Records: what is written is read back equal, and a damaged file gives one sentence."""

import math
import subprocess
import sys
import textwrap
import warnings
from datetime import UTC

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnperf.errors import RunFileError
from cnnperf.records.case import AXES, Case
from cnnperf.records.files import read_run
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import METRICS, Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, ForeignRecord, NotMeasured, Over, Run
from cnnperf.records.writing import Journal, save_run
from cnnperf.testing import MadeHistory

TEXTS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=12)
NAMES = TEXTS.filter(bool)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SECONDS = st.floats(1e-9, 1e6)
COUNTS = st.integers(0, 2**63 - 1)
CASES = st.builds(Case, **{axis.name: TEXTS if axis.type is str else COUNTS for axis in AXES})
VALUES = st.builds(Value, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | COUNTS)
METRIC_VALUES = st.dictionaries(st.sampled_from(sorted(METRICS)), VALUES, max_size=4).map(with_units)
FINDINGS = st.builds(Finding, NAMES, TEXTS, TEXTS, TEXTS, NUMBERS)
ROUNDS = st.lists(st.lists(SECONDS, min_size=1, max_size=4), max_size=3).map(Rounds)
RANKS = st.dictionaries(
    st.sampled_from(["step", "without_communication"]), st.lists(st.lists(SECONDS).map(tuple)).map(tuple), max_size=2
)
OTHER_AXES = st.fixed_dictionaries({}, optional={"engine": TEXTS, "batch": COUNTS})
RECORDS = st.builds(
    CaseRecord,
    CASES,
    METRIC_VALUES,
    ROUNDS,
    st.lists(FINDINGS, max_size=2).map(tuple),
    st.lists(SECONDS, max_size=3).map(tuple),
    st.none() | SECONDS,
    RANKS,
    TEXTS,
    NAMES,
    TEXTS,
    st.lists(
        st.builds(Over, st.fixed_dictionaries({}, optional={"engine": TEXTS, "batch": COUNTS}), VALUES, COUNTS)
    ).map(tuple),
)
FOREIGN = st.builds(ForeignRecord, NAMES, st.builds(Value, SECONDS, rounds=st.none() | COUNTS))
MISSING = st.builds(NotMeasured, st.fixed_dictionaries({}, optional={"device": TEXTS, "batch": COUNTS}), TEXTS)
SCALARS = st.none() | TEXTS | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS
TIMES = st.datetimes(timezones=st.just(UTC))
RUNS = st.builds(
    Run,
    time=st.none() | TIMES,
    commit_info=st.dictionaries(NAMES, SCALARS, max_size=3),
    machine_info=st.dictionaries(NAMES, SCALARS, max_size=3),
    suite=TEXTS,
    planned=st.none() | COUNTS,
    cases=st.lists(RECORDS, max_size=3).map(tuple),
    foreign=st.lists(FOREIGN, max_size=2).map(tuple),
    not_measured=st.lists(MISSING, max_size=2).map(tuple),
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    environment=st.dictionaries(NAMES, SCALARS, max_size=3),
    ceilings=st.dictionaries(NAMES, st.dictionaries(NAMES, NUMBERS, max_size=2), max_size=2),
    wall_seconds=st.none() | SECONDS,
    compile_seconds=st.none() | SECONDS,
    round_seconds=st.none() | SECONDS,
    anchor=TEXTS,
    regressed=TEXTS,
    smallest_difference=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    step=st.none() | NUMBERS,
    hosts=st.lists(TEXTS, max_size=2).map(tuple),
    shard=TEXTS,
    of_cases=TEXTS,
)


@pytest.mark.slow
@given(RUNS)
def test_every_run_that_is_written_is_read_back_equal(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("round-trip") / "run.json"
    save_run(path, run)
    assert read_run(path) == run


def test_the_journal_of_a_run_is_read_as_the_run(tmp_path):
    whole = MadeHistory(runs=1).run(0)
    journal = Journal(tmp_path, whole.replace(cases=()))
    for record in whole.cases:
        journal.add(record)
    missing = NotMeasured({"device": "cuda"}, "no CUDA device")
    journal.skip(missing)
    assert read_run(journal.path) == whole.replace(not_measured=(missing,))
    journal.delete()
    assert not journal.path.exists()


SMALL = MadeHistory(runs=1, cases=2, rounds=2).run(0)


def read_or_refusal(path):
    """Return the run of a file whose rounds are sound too, and the text of the error."""
    try:
        run = read_run(path)
        for record in run.cases if run else ():
            assert len(record.groups) <= 1
    except RunFileError as error:
        return None, str(error)
    return run, ""


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_byte_is_read_or_refused_in_one_sentence_with_the_path(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "run.json"
    save_run(path, SMALL)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    _, refusal = read_or_refusal(path)
    assert "\n" not in refusal
    assert not refusal or refusal.startswith(f"{path}: ")


@given(st.integers(0, 4000))
def test_a_journal_that_is_cut_anywhere_is_read_up_to_there_or_refused_in_one_sentence(tmp_path_factory, length):
    journal = Journal(tmp_path_factory.mktemp("cut"), SMALL.replace(cases=()))
    for record in SMALL.cases:
        journal.add(record)
    journal.path.write_bytes(journal.path.read_bytes()[:length])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run, refusal = read_or_refusal(journal.path)
    assert not refusal or refusal.startswith(f"{journal.path}: ")
    assert run is None or run.cases == SMALL.cases[: len(run.cases)]


def test_a_ceiling_that_is_null_is_nan(tmp_path):
    path = tmp_path / "run.json"
    save_run(path, SMALL.replace(ceilings={"cuda:0": {"copy_bandwidth": 1e12}}))
    path.write_text(path.read_text().replace("1000000000000.0", "null"))
    assert math.isnan(read_run(path).ceilings["cuda:0"]["copy_bandwidth"])


@pytest.mark.parametrize("text", ["NaN", "null"])
def test_a_number_that_is_not_known_is_nan_however_it_is_written(tmp_path, text):
    path = tmp_path / "run.json"
    save_run(path, SMALL)
    path.write_text(path.read_text().replace('"flop":{"value":1000000000.0', f'"flop":{{"value":{text}'))
    run = read_run(path)
    assert all(math.isnan(record.values["flop"].value) for record in run.cases)


THREADS = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    from cnnperf.records.reading import parse_document
    from cnnperf.testing import MadeHistory

    sys.setswitchinterval(1e-6)
    document, barrier = MadeHistory(runs=1, cases=2, rounds=2).document(0), Barrier(16)

    def read(_):
        barrier.wait()
        return parse_document(document)

    with ThreadPoolExecutor(16) as threads:
        assert len(set(map(repr, threads.map(read, range(16))))) == 1
"""


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(6))
def test_the_first_files_of_a_process_may_be_read_by_several_threads(attempt):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(THREADS)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, (attempt, done.stderr)


@pytest.mark.parametrize(
    ("axes", "fault"),
    [({"nothing": "compile"}, "unknown axis 'nothing'"), ({"engine": 5}, "a text is needed here, found 5")],
)
def test_a_ratio_to_no_case_is_refused_with_its_place(tmp_path, axes, fault):
    path = tmp_path / "run.json"
    damaged = msgspec.structs.replace(SMALL.cases[0], block="a block", ratios=(Over(axes, Value(1.0)),))
    save_run(path, SMALL.replace(cases=(damaged,)))
    _, refusal = read_or_refusal(path)
    assert "$.benchmarks[0].extra_info.ratios[0].axes" in refusal
    assert fault in refusal


def test_an_unknown_axis_with_a_line_end_in_its_name_is_refused_in_one_line(tmp_path):
    path = tmp_path / "run.json"
    save_run(path, SMALL)
    path.write_bytes(path.read_bytes().replace(b'"precision"', b'"precisi\\n"'))
    _, refusal = read_or_refusal(path)
    assert "unknown axis 'precisi\\n'" in refusal
    assert "\n" not in refusal
