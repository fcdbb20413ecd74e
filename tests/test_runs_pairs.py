"""The pairs of a run: which cases are compared, and what an interval allows to say."""

import pytest
from documents import benchmark, document

from cnnperf.records.metrics import Value
from cnnperf.records.reading import parse_document
from cnnperf.runs.pairs import ABOVE, BELOW, DEVICE, ENGINE, PART, UNKNOWN, UNSURE, pairs_of, shares_of, verdict_on


def cases_of(*benchmarks):
    return {record.case: record for record in parse_document(document(*benchmarks)).cases}


def compared(cases, kind):
    return [(pair.numerator, pair.denominator) for pair in pairs_of(cases) if pair.kind == kind]


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


@pytest.mark.parametrize(
    ("quotient", "verdict"),
    [
        (Value(1.2, 1.1, 1.3), ABOVE),
        (Value(0.8, 0.7, 0.9), BELOW),
        (Value(1.2, 0.9, 1.5), UNSURE),
        (Value(1.2, 1.0001, 1.5), UNSURE),  # written as 1.00
        (Value(1.2), UNKNOWN),
        (Value(float("nan"), 1.1, 1.3), UNKNOWN),
    ],
)
def test_the_verdict_is_that_of_the_interval(quotient, verdict):
    assert verdict_on(quotient) == verdict
