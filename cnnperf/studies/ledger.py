"""Finished seeds on disk, so that a study that was interrupted goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError

SETTINGS = "settings"


class Ledger:
    """A file with one line a finished seed, under the settings that all of them were made with."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Read what is there, or begin.

        Args:
            path: Of the file, JSON Lines.
            settings: Plain values that a finished seed depends on.
            restart: Throw away what is there.

        Raises:
            RunFileError: If the file cannot be read or written, or was made with other settings.
        """
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        if path.exists() and not restart:
            self._read(settings)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({SETTINGS: settings}) + "\n", encoding="utf-8")
        except OSError as error:
            raise RunFileError(f"{path}: cannot be written: {error.strerror}; choose another --out FOLDER") from error

    def add(self, seed: int, row: Mapping[str, Any]) -> None:
        """Keep a finished seed at once.

        Raises:
            RunFileError: If the file cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"seed": seed, **row}) + "\n")
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot be written: {error.strerror}; seed {seed} is lost") from error
        self.rows[seed] = dict(row)

    def _read(self, settings: Mapping[str, Any]) -> None:
        """Read the finished seeds; a last line that was cut is a seed that was not finished."""
        try:
            first, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            made = json.loads(first)[SETTINGS]
            rows = [json.loads(line) for line in lines if line.endswith("\n")]
            self.rows = {int(row.pop("seed")): row for row in rows}
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFileError(
                f"{self.path}: not the seeds of a study ({error}); --restart throws them away"
            ) from error
        # As JSON has them: a tuple comes back as a list.
        wanted = json.loads(json.dumps(settings))
        names = [name for name in {**made, **wanted} if made.get(name) != wanted.get(name)]
        if names:
            told = "; ".join(f"{name} was {made.get(name)}, now {wanted.get(name)}" for name in names)
            raise RunFileError(
                f"{self.path}: made with other settings ({told}); choose another --out FOLDER, or throw them away with "
                "--restart"
            )
        if lines and not lines[-1].endswith("\n"):
            self.path.write_text("".join([first, *lines[:-1]]), encoding="utf-8")
