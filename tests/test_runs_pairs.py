"""The pairs of a run: which cases are compared, and what their ratios allow to say."""

import msgspec
import pytest
from documents import benchmark, document

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.reading import parse_document
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, Over, Run
from cnnperf.runs.pairs import DEVICE, ENGINE, PART, case_pairs_of, pairs_of, shares_of
from cnnperf.runs.ratios import latency_ratio
from cnnperf.runs.run_ratios import ratios_of_run


def cases_of(*benchmarks):
    return {record.case: record for record in parse_document(document(*benchmarks)).cases}


def compared(cases, kind):
    return [(pair.numerator, pair.denominator) for pair in case_pairs_of(cases) if pair.kind == kind]


def test_engines_are_compared_with_eager():
    cases = cases_of(*(benchmark(engine=engine) for engine in ("compile", "eager", "cudagraphs")))
    found = [(one.engine, other.engine) for one, other in compared(cases, ENGINE)]
    assert found == [("eager", "compile"), ("eager", "cudagraphs")]


def test_where_a_case_is_not_measured_in_eager_mode_its_first_engine_takes_that_place():
    eager_elsewhere = benchmark(layout="channels_last")
    cases = cases_of(eager_elsewhere, *(benchmark(engine=engine) for engine in ("compile", "cudagraphs")))
    found = [(one.engine, other.engine) for one, other in compared(cases, ENGINE)]
    assert found == [("compile", "cudagraphs")]


def test_cuda_is_compared_with_the_cpu_and_a_part_with_the_network_without_it():
    networks = [benchmark(name, device=device) for name in ("resnet18", "se_resnet18") for device in ("cpu", "cuda")]
    cases = cases_of(*networks)
    assert [(one.device, other.device) for one, other in compared(cases, DEVICE)] == [("cpu", "cuda")] * 2
    parts = compared(cases, PART)
    assert {(one.architecture, other.architecture) for one, other in parts} == {("se_resnet18", "resnet18")}
    assert {one.device for one, _ in parts} == {"cpu", "cuda"}


def test_a_share_needs_all_three_networks():
    names = ("resnet18", "se_resnet18", "se_resnet18_fused")
    benchmarks = [benchmark(name, latency) for name, latency in zip(names, (1e-3, 2e-3, 1.25e-3), strict=True)]
    (share,) = shares_of(cases_of(*benchmarks))
    assert share.share.value == pytest.approx(0.75)
    assert share.sure
    assert shares_of(cases_of(*benchmarks[1:])) == ()


EAGER, COMPILED = Case("lenet5"), Case("lenet5", engine="compile")


def run_with(ratio, *, block="block", **facts):
    """Return a run of two engines, of which eager over compiled was measured side by side in a block."""
    values = {"latency": Value(1.0, 0.9, 1.1)}
    overs = (Over({"engine": "compile"}, ratio),)
    records = (CaseRecord(EAGER, values, block=block, ratios=overs), CaseRecord(COMPILED, values, block=block))
    return Run(cases=records, **facts)


@pytest.mark.parametrize(
    ("ratio", "verdict", "said_of_compiled"),
    [
        (Value(1.2, 1.1, 1.31, 50), "above", "faster"),
        (Value(0.8, 0.7, 0.91, 50), "below", "slower"),
        (Value(1.2, 0.9, 1.6, 50), "unsure", "unsure"),
        (Value(1.05, 1.005, 1.097, 50), "unsure", "unsure"),
        (Value(1.005, 1.0, 1.01, 50), "same", "same"),
        (Value(1.2), "unknown", "unknown"),
    ],
)
def test_the_verdict_on_a_pair_is_about_the_case_that_is_compared(ratio, verdict, said_of_compiled):
    ratios = ratios_of_run(run_with(ratio))
    (pair,) = pairs_of([EAGER, COMPILED], ratios)
    assert (pair.ratio.verdict, pair.verdict, pair.ratio.paired) == (verdict, said_of_compiled, True)


@pytest.mark.parametrize(("processes", "freedom", "verdict"), [(0, None, "above"), (2, 1, "unsure"), (5, 4, "above")])
def test_the_verdict_on_a_ratio_over_processes_has_a_degree_of_freedom_less_than_there_are_processes(
    processes, freedom, verdict
):
    run = run_with(Value(1.2, 1.1, 1.31, 50))
    over = Over({"engine": "compile"}, Value(1.2, 1.02, 1.41, 50), processes)
    eager, compiled = run.cases
    run = run.replace(cases=(msgspec.structs.replace(eager, ratios=(over,)), compiled))
    ratio = ratios_of_run(run)[EAGER, COMPILED]
    assert (ratio.freedom, ratio.verdict) == (freedom, verdict)


def test_an_inverse_ratio_keeps_its_processes():
    run = run_with(Value(1.2, 1.1, 1.31, 50))
    eager, compiled = run.cases
    over = Over({"engine": "eager"}, Value(0.8, 0.7, 0.9, 9), 3)
    compiled = msgspec.structs.replace(compiled, ratios=(over,))
    ratio = latency_ratio(msgspec.structs.replace(eager, ratios=()), compiled)
    assert (ratio.value.value, ratio.freedom) == (pytest.approx(1.25), 2)


def test_cases_of_two_blocks_are_not_paired_and_their_ratio_is_that_of_medians():
    ratio = ratios_of_run(run_with(Value(1.2, 1.1, 1.3, 50), block=""))[EAGER, COMPILED]
    assert (ratio.paired, ratio.value.value) == (False, pytest.approx(1.0))


def test_the_smallest_difference_of_the_run_decides_what_is_the_same():
    ratio = Value(1.02, 1.01, 1.03, 50)
    verdicts = [
        ratios_of_run(run_with(ratio, smallest_difference=least))[EAGER, COMPILED].verdict for least in (0.02, 0.1)
    ]
    assert verdicts == ["above", "same"]


def test_a_share_comes_from_the_cycles_of_one_block():
    plain, costly, improved = (Case(name) for name in ("resnet18", "se_resnet18", "se_resnet18_fused"))
    drift = [1.0 + 0.1 * cycle for cycle in range(20)]  # would hide the cost in three medians
    seconds = {plain: 1.0, costly: 1.1, improved: 1.05}
    cases = {
        case: CaseRecord(case, {}, Rounds([[factor * scale] for scale in drift]), block="block")
        for case, factor in seconds.items()
    }
    (share,) = shares_of(cases)
    assert (share.paired, share.share.value) == (True, pytest.approx(0.5))


def test_a_share_over_several_processes_has_the_spread_between_them():
    plain, costly, improved = (Case(name) for name in ("resnet18", "se_resnet18", "se_resnet18_fused"))
    cycles = Rounds([[1.0]] * 20)  # which alone would give an interval without any width
    processes = {plain: (1.0, 1.0, 1.0), costly: (1.2, 1.21, 1.19), improved: (1.1, 1.12, 1.08)}
    cases = {
        case: CaseRecord(case, {}, cycles, block="block", processes=seconds) for case, seconds in processes.items()
    }
    (share,) = shares_of(cases)
    assert (share.paired, share.share.rounds) == (True, 3)
    assert share.share.value == pytest.approx(0.5, rel=0.01)
    assert share.share.low < 0.45
    assert share.share.high > 0.55
