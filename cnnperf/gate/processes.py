"""The worker of a side as a process: started, asked, and stopped without leaving anything behind."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from cnnperf.errors import CnnperfError
from cnnperf.gate.sides import Side

SCRIPT = Path(__file__).with_name("worker.py")
PATIENCE = 600.0  # seconds for one answer; a compilation can take minutes
SHOWN_LINES = 5  # of what a worker printed before it died

CALM = {
    # Spinning OpenMP threads multiply what a busy neighbour costs; huge pages halve the spread between placements.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Variables that a worker starts with, unless the environment has them already."""


class CannotMeasure(CnnperfError):  # noqa: N818 - an answer about a case of one side
    """Report that a side cannot run a case, with the kind of its error."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the name of the error's class beside its message."""
        super().__init__(message)
        self.kind = kind


class Peer(Protocol):
    """Be something that answers the requests of `worker.Worker`."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer."""


class Process:
    """Run a worker for one side."""

    def __init__(self, side: Side, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> None:
        """Start it; it loads PyTorch with its first request.

        Raises:
            CnnperfError: If the interpreter cannot be started.
        """
        self._side = side
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        given = os.environ if environment is None else environment
        command = [python, str(SCRIPT), *map(str, side.paths())]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user runs or names
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**CALM, **given},
                cwd=side.folder,
            )
        except OSError as error:
            self._errors.close()
            raise CnnperfError(f"{python} cannot be started for {side.name}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        self.stop()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises:
            CannotMeasure: If the side's code raised an error.
            CnnperfError: If the process died, or did not answer in ten minutes.
        """
        line = self._exchange(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CannotMeasure(answer["kind"], answer["error"])
        return answer

    def stop(self) -> None:
        """End the process, and wait until it is gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:  # of a request that nobody is left to read
                    continue

    def _exchange(self, request: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise CnnperfError(f"the worker of {self._side.name} has no pipes")
        try:
            stdin.write(request)
            stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + PATIENCE
            if not selector.select(max(0.0, deadline - time.monotonic())):
                self.stop()
                raise CnnperfError(
                    f"the worker of {self._side.name} gave no answer in {PATIENCE:.0f} s and was stopped"
                )
        line = stdout.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        return line

    def _died(self) -> CnnperfError:
        status = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
        said = "; it said: " + " | ".join(last) if last else " without a word"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return CnnperfError(f"the worker of {self._side.name} {how}{said}")
