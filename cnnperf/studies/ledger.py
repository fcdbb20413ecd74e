"""Finished seeds on disk, from which an interrupted study resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError

SETTINGS = "settings"


class Ledger:
    """JSON Lines file with the common settings in the first line, and one finished seed in each further line.

    Attributes:
        path: Path of the file.
        rows: Results by finished seed.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Read the file, or create it.

        Args:
            path: Path of the file.
            settings: Plain values on which the result of a seed depends.
            restart: Whether to delete finished seeds.

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
        """Append a finished seed to the file.

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
        """Read the finished seeds; an incomplete last line is dropped."""
        try:
            first, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            old = json.loads(first)[SETTINGS]
            rows = [json.loads(line) for line in lines if line.endswith("\n")]
            self.rows = {int(row.pop("seed")): row for row in rows}
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFileError(
                f"{self.path}: not the seeds of a study ({error}); --restart replaces the file"
            ) from error
        new = json.loads(json.dumps(settings))  # as in the file: a tuple becomes a list
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if names:
            changes = "; ".join(f"{name} was {old.get(name)}, now {new.get(name)}" for name in names)
            raise RunFileError(
                f"{self.path}: made with other settings ({changes}); choose another --out FOLDER, or delete the "
                "finished seeds with --restart"
            )
        if lines and not lines[-1].endswith("\n"):
            self.path.write_text("".join([first, *lines[:-1]]), encoding="utf-8")
