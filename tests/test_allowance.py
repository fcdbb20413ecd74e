"""What is allowed, as typed: one percentage for all cases, others for some."""

import pytest

from cnnperf.errors import OptionError
from cnnperf.records.allowance import Allowance, parse_allowance
from cnnperf.records.case import Case
from cnnperf.stats.sequential import Rule

SE = Case("se_resnet18", "train", batch=4)


def test_nothing_given_is_five_percent():
    assert parse_allowance(()) == Allowance(0.05)


def test_a_percentage_may_be_a_fraction_too():
    assert parse_allowance(["3%"]) == parse_allowance(["0.03"]) == Allowance(0.03)


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
    allowed = parse_allowance(texts)
    rule = Rule(allowed.general, cases=9, overrides=allowed.overrides)
    assert rule.of(SE).allowance == expected
    assert rule.of(SE).level == rule.level


@pytest.mark.parametrize("text", ["0", "0%", "100%", "-5%", "much", "", "nan", "se_*=", "se_*=0%"])
def test_what_is_no_percentage_is_refused(text):
    with pytest.raises(OptionError, match="--allow takes a percentage above 0 and below 100"):
        parse_allowance([text])


def test_two_percentages_for_all_are_refused():
    with pytest.raises(OptionError, match="one percentage for all cases, not 3% and 5%"):
        parse_allowance(["3%", "5%"])


def test_a_percentage_of_no_case_is_refused():
    with pytest.raises(OptionError, match="without a glob it stands for no case"):
        parse_allowance(["=3%"])
