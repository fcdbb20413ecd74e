import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnperf.records.metrics import Value
from cnnperf.stats.ratio import ratio, recovered_share, sees_difference


def test_a_ratio_of_exact_values_is_exact():
    assert ratio(Value(6, 6, 6), Value(2, 2, 2)) == Value(3, 3, 3)


def test_half_widths_add_in_quadrature_on_a_logarithmic_scale():
    quotient = ratio(Value(1, 1, math.exp(0.03)), Value(1, math.exp(-0.04), 1))
    assert math.log(quotient.high) == pytest.approx(0.05)
    assert math.log(quotient.low) == pytest.approx(0)


def test_a_ratio_with_a_side_without_interval_has_none():
    quotient = ratio(Value(2.0, 1.9, 2.1), Value(1.0))
    assert (quotient.value, quotient.low, quotient.high) == (2.0, None, None)
    assert sees_difference(quotient) is None


@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0, math.inf])
def test_a_ratio_with_what_is_no_time_is_absent(value):
    assert math.isnan(ratio(Value(value), Value(1.0)).value)
    assert math.isnan(ratio(Value(1.0), Value(value)).value)


def test_a_difference_is_seen_only_when_the_interval_leaves_one_out():
    assert sees_difference(ratio(Value(1.1, 1.09, 1.11), Value(1, 0.99, 1.01)))
    assert not sees_difference(ratio(Value(1.1, 1.0, 1.2), Value(1, 0.9, 1.1)))


times = st.tuples(st.floats(1e-6, 1e3), st.floats(0, 0.9), st.floats(0, 0.9)).map(
    lambda t: Value(t[0], t[0] * (1 - t[1]), t[0] * (1 + t[2]))
)


@given(times, times)
def test_the_ratio_lies_in_its_interval_and_turns_around(left, right):
    one, other = ratio(left, right), ratio(right, left)
    assert one.low <= one.value * (1 + 1e-9)
    assert one.value <= one.high * (1 + 1e-9)
    assert other.low == pytest.approx(1 / one.high)


def test_half_of_the_cost_is_recovered():
    share = recovered_share(Value(1, 1, 1), Value(1.2, 1.2, 1.2), Value(1.1, 1.1, 1.1))
    assert (share.value, share.low, share.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_doubt_of_a_share_is_that_of_its_parts():
    share = recovered_share(Value(1, 1, 1), Value(1.2, 1.2, 1.2), Value(1.1, 1.08, 1.12))
    assert share.high - share.value == pytest.approx(0.02 / 0.2)


def test_of_a_cost_that_was_not_seen_nothing_is_recovered():
    assert math.isnan(recovered_share(Value(1, 0.9, 1.1), Value(1.05, 0.95, 1.15), Value(1, 1, 1)).value)
    assert math.isnan(recovered_share(Value(1, 1, 1), Value(0.8, 0.8, 0.8), Value(1, 1, 1)).value)
