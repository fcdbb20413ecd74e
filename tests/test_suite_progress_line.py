"""The progress line on a terminal of a given width."""

import shutil
from types import SimpleNamespace

import pytest

from cnnperf.suite.progress_line import ProgressLine

LINE = "[ 1/42] lenet5 forward cpu eager batch 128 (together with 41 others) "
STATE = "visit 3 of 16, widest ratio ±8.9%, at most 31 s left"


class Terminal:
    """A terminal that keeps the text of its last row."""

    verbosity, currentfspath, isatty = 0, "test_lenet.py", True

    def __init__(self):
        self.row = ""

    def write(self, text, flush=False):
        for part in text.split("\r")[-1:]:
            self.row = part.replace("\x1b[K", "") if "\r" in text else self.row + part
        self.row = self.row.split("\n")[-1]


@pytest.fixture
def shown(monkeypatch):
    """Return a function of the width of a terminal that returns it and a progress line that shows each state."""

    def of(columns):
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: SimpleNamespace(columns=columns))
        monkeypatch.setattr("cnnperf.suite.progress_line.REDRAW", 0.0)
        terminal = Terminal()
        plugins = SimpleNamespace(get_plugin=lambda name: terminal if name == "terminalreporter" else None)
        return terminal, ProgressLine(SimpleNamespace(pluginmanager=plugins))

    return of


def test_a_state_stands_behind_the_line_where_there_is_room(shown):
    terminal, progress = shown(160)
    progress.write(LINE)
    progress.show_state(STATE)
    assert terminal.row == LINE + STATE


def test_a_state_takes_the_place_of_the_line_on_a_narrow_terminal(shown):
    terminal, progress = shown(80)
    progress.write(LINE)
    progress.show_state(STATE)
    assert terminal.row.strip() == STATE
    progress.write("7.12 ms ±0.5%")
    assert terminal.row == LINE + "7.12 ms ±0.5%"


def test_a_state_never_takes_two_rows(shown):
    terminal, progress = shown(30)
    progress.write(LINE)
    progress.show_state(STATE)
    assert len(terminal.row) < 30
