"""What is allowed, as typed: one percentage for all cases, others for some."""

import math

import pytest

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.records.case import Case
from cnnperf.records.tolerance import Tolerance, parse_tolerance
from cnnperf.stats.sequential import Rule

SE = Case("se_resnet18", "train", batch=4)


def test_nothing_given_is_five_percent():
    assert parse_tolerance(()) == Tolerance(0.05)


def test_a_percentage_may_be_a_fraction_too():
    assert parse_tolerance(["3%"]) == parse_tolerance(["0.03"]) == Tolerance(0.03)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("se_*=2%",), 0.02),
        (("* train *=2%",), 0.02),
        (("resnet18=2%",), 0.05),
        (("*=2%", "se_*=3%"), 0.03),
        (("8%", "lenet5=2%"), 0.08),
    ],
)
def test_a_glob_over_architecture_or_label_overrides_and_the_last_one_counts(texts, expected):
    rule = Rule(parse_tolerance(texts), cases=9)
    assert rule.of(SE).tolerance.general == expected
    assert rule.of(SE).level == rule.level


@pytest.mark.parametrize("text", ["0", "0%", "100%", "-5%", "much", "", "nan", "se_*=", "se_*=0%"])
def test_what_is_no_percentage_is_refused(text):
    with pytest.raises(OptionError, match="--allow takes a percentage above 0 and below 100"):
        parse_tolerance([text])


def test_two_percentages_for_all_are_refused():
    with pytest.raises(OptionError, match="one percentage for all cases, not 3% and 5%"):
        parse_tolerance(["3%", "5%"])


def test_a_percentage_of_no_case_is_refused():
    with pytest.raises(OptionError, match="an empty glob matches no case"):
        parse_tolerance(["=3%"])


@pytest.mark.parametrize("wrong", [0, -0.05, math.nan, math.inf])
def test_a_fraction_that_is_not_above_0_is_refused(wrong):
    with pytest.raises(CnnperfError, match="a fraction above 0"):
        Tolerance(wrong)
