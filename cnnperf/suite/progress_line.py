"""Progress of a benchmark run in the terminal: one line a case, and the state of a block while it is measured."""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from typing import Any

import pytest

REDRAW = 0.5  # seconds between two states on a terminal
REPEAT = 30.0  # seconds between two states in a log, where each is a line of its own
ERASE = "\x1b[K"
INDENT = "      "


class ProgressLine:
    """Writer of progress while pytest captures the output, one line a case, below the name of its file."""

    def __init__(self, config: pytest.Config) -> None:
        """Write to the terminal of a pytest run, whose plugins may be registered later."""
        self._plugins = config.pluginmanager
        self._file: Any = None
        self._line = ""
        self._shown = time.monotonic()
        self._has_state = False

    @property
    def _reporter(self) -> Any:
        """The terminal; None where there is none, or it is to be quiet."""
        reporter: Any = self._plugins.get_plugin("terminalreporter")
        return None if reporter is None or reporter.verbosity < 0 else reporter

    def write(self, text: str) -> None:
        """Write text; one that begins with `[` is the beginning of the line of a case."""
        if (reporter := self._reporter) is None:
            return
        file = reporter.currentfspath
        starts_file = text.startswith("[") and (file != self._file or reporter.verbosity > 0)
        self._file = file
        self._erase_state()
        self._put(f"\n{text}" if starts_file else text)
        self._line = "" if text.endswith("\n") else self._line + text
        self._shown = time.monotonic()

    def show_state(self, text: str) -> None:
        """Show the state of a block behind the unfinished line; in a log, now and then on a line of its own."""
        if (reporter := self._reporter) is None:
            return
        on_terminal = bool(reporter.isatty)
        if time.monotonic() - self._shown < (REDRAW if on_terminal else REPEAT):
            return
        self._shown = time.monotonic()
        if on_terminal:
            room = shutil.get_terminal_size().columns - 1
            line = self._line if len(self._line) + len(text) <= room else INDENT  # the state says more than the case
            self._put(f"\r{ERASE}{line}{text}"[: room + len(f"\r{ERASE}")])
            self._has_state = True
        else:
            self._put(f"\n{INDENT}{text}\n{INDENT}" if self._line else f"{text}\n{INDENT}")
            self._line = ""

    def _erase_state(self) -> None:
        if self._has_state:
            self._put(f"\r{self._line}{ERASE}")
            self._has_state = False

    def _put(self, text: str) -> None:
        capture: Any = self._plugins.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            self._reporter.write(text, flush=True)
