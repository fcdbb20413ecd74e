import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnperf.units import (
    SCALES,
    format_duration,
    format_factor,
    format_percent,
    format_quantity,
    format_ratio,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2345e-3, "s", "1.23 ms"),
        (418e-6, "s", "418 µs"),
        (9.996e-4, "s", "1.00 ms"),
        (2.5e-8, "s", "25.0 ns"),
        (1.0, "s", "1.00 s"),
        (90.0, "s", "90.0 s"),
        (-1.5e-3, "s", "-1.50 ms"),
        (0.0, "s", "0 s"),
        (512, "B", "512 B"),
        (1536, "B", "1.50 KiB"),
        (1023 * 1024, "B", "1023 KiB"),
        (1024**2 - 1, "B", "1.00 MiB"),
        (3 * 1024**3, "B", "3.00 GiB"),
        (1.234e10, "B/s", "12.3 GB/s"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (833_000, "flop", "833 kflop"),
        (7, "flop", "7 flop"),
        (1.5e11, "flop/s", "150 Gflop/s"),
        (12_345, "images/s", "12.3k images/s"),
        (53.14, "images/s", "53.1 images/s"),
        (62_006, "1", "62,006"),
        (11_173_962, "1", "11,173,962"),
        (1234.56, "1", "1,235"),
        (0.721, "ratio", "72%"),
        (2.0, "volt", "2.00 volt"),
        (math.nan, "s", "-"),
        (math.inf, "s", "inf s"),
    ],
)
def test_a_quantity_has_three_significant_digits_and_the_prefix_that_suits_its_size(value, unit, text):
    assert format_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.0213, "2.1%"),
        (0.0996, "10%"),
        (0.72, "72%"),
        (1.234, "123%"),
        (0.004, "0.4%"),
        (0.0004, "0.04%"),
        (0.0, "0%"),
        (-0.35, "-35%"),
        (math.nan, "-"),
        (math.inf, "inf%"),
    ],
)
def test_a_percentage_shows_no_more_than_can_be_known(ratio, text):
    assert format_percent(ratio) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.234, "1.23x"), (0.873, "0.87x"), (12.34, "12.3x"), (123.4, "123x"), (0.0123, "0.012x"), (math.nan, "-")],
)
def test_a_ratio_is_written_as_a_factor(ratio, text):
    assert format_ratio(ratio) == text


def test_the_end_of_an_interval_has_no_sign_of_a_factor():
    assert format_factor(1.234) == "1.23"
    assert format_factor(math.nan) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40.0 ms"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (80, "1 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (-5, "-5.0 s"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_a_duration_reads_as_people_say_it(seconds, text):
    assert format_duration(seconds) == text


@given(st.floats(min_value=1e-12, max_value=1e17), st.sampled_from(sorted(SCALES)))
def test_the_text_of_a_quantity_differs_from_it_by_less_than_a_percent(value, unit):
    texts = {text: factor for factor, text in SCALES[unit].steps}
    text = format_quantity(value, unit)
    number, factor = next(
        (text.removesuffix(end), texts[end]) for end in sorted(texts, key=len)[::-1] if text.endswith(end)
    )
    assert float(number) * factor == pytest.approx(value, rel=0.01)


@given(st.floats(), st.sampled_from([*SCALES, "1", "ratio", "x"]))
def test_every_number_can_be_written(value, unit):
    assert format_quantity(value, unit)
    assert format_ratio(value)
    assert format_duration(value)
