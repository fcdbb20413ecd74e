from hypothesis import given
from hypothesis import strategies as st

from cnnperf.report.layout import WIDTH, grid, printable, shorten, wrap


def test_a_long_name_keeps_both_ends():
    assert shorten("mypackage.module:factory", 11) == "mypac…ctory"


def test_a_name_that_fits_is_left_alone():
    assert shorten("lenet5", 6) == "lenet5"


@given(st.text(), st.integers(1, 120))
def test_a_shortened_text_fits(text, width):
    assert len(shorten(text, width)) <= width


def test_numbers_line_up_on_the_right_and_labels_on_the_left():
    assert grid(("", "a"), [("one", "1"), ("three", "100")]) == ["           a", "  one      1", "  three  100"]


def test_a_column_without_values_is_left_out():
    assert grid(("", "a", "b"), [("x", "-", "1"), ("y", "", "2")]) == ["     b", "  x  1", "  y  2"]


def test_a_heading_takes_the_whole_line():
    assert grid(("", "a"), ["a long heading", ("x", "1")])[1] == "a long heading"


def test_headings_alone_are_no_table():
    assert grid(("", "a"), ["heading"]) == []


def test_a_long_label_gives_way_to_the_numbers():
    line = grid(("", "a"), [("x" * 200, "1" * 20)])[1]
    assert len(line) == WIDTH
    assert line.endswith("1" * 20)


def test_a_wide_table_closes_its_gaps_before_it_cuts():
    cells = tuple("1" * 14 for _ in range(6))
    line = grid(("",) + ("a",) * 6, [("forward", *cells)])[1]
    assert len(line) <= WIDTH
    assert line.count("1" * 14) == 6


def test_text_that_would_move_the_cursor_is_not_printed():
    assert printable("a\x1b[31m\nb") == "a?[31m?b"


def test_wrapped_lines_fit():
    assert all(len(line) <= WIDTH for line in wrap("word " * 100))
