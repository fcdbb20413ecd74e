"""The processes of a gate as seen from the gate: started, asked, and stopped without leaving anything behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from cnnperf.errors import CnnperfError
from cnnperf.gate.sides import Side
from cnnperf.gate.worker import MESSAGE_BYTES

SCRIPT = Path(__file__).with_name("worker.py")
PATIENCE = 600.0  # seconds for one answer; a compilation can take minutes
GRACE = 2.0  # seconds for a worker to end once it was hung up on, or has hung up
SHOWN_LINES = 5  # of what a process printed before it died

EAGER_MODULES = ("torch",)
COMPILER_MODULES = ("torch", "torch._inductor.compile_fx")
"""What is loaded before workers are forked: all that takes long and belongs to no side."""

CALM = {
    # Spinning OpenMP threads multiply what a busy neighbour costs; huge pages halve the spread between placements.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
    # The compiler's own processes would be started before the fork, and shared by all sides.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}
"""Variables that workers have, unless the environment has them already."""


class CannotMeasure(CnnperfError):  # noqa: N818 - an answer about a case of one side
    """A side that cannot run a case, with the kind of its error."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the name of the error's class beside its message."""
        super().__init__(message)
        self.kind = kind


class Peer(Protocol):
    """Something that answers the requests of `worker.Worker`."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer."""


class Stoppable(ABC):
    """Something that is stopped at the end of a `with`."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    @abstractmethod
    def stop(self) -> None:
        """End what runs, and wait until it is gone."""


class Nursery(Stoppable):
    """Fork server: the process that loads PyTorch once and forks workers."""

    def __init__(
        self,
        python: str = sys.executable,
        modules: Sequence[str] = EAGER_MODULES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Raises:
            CnnperfError: If the interpreter cannot be started.
        """
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        # Messages keep their bounds, and come with file descriptors.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE)
        given = os.environ if environment is None else environment
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user runs or names
                    [python, str(SCRIPT), str(theirs.fileno()), *modules],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._errors,
                    stderr=self._errors,
                    env={**CALM, **given},
                )
            except OSError as error:
                self._errors.close()
                self._control.close()
                raise CnnperfError(f"{python} cannot be started: {error.strerror or error}") from error

    def stop(self) -> None:
        """End the process; its workers end when their sockets are closed."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def fork(self, side: Side, descriptors: Sequence[int]) -> int:
        """Return the number of a new worker that has a socket and a file for what it prints."""
        request = {"paths": [str(path) for path in side.paths()], "folder": str(side.folder)}
        return self._ask(request, descriptors)

    def end(self, number: int, grace: float) -> int:
        """End a worker, which has some seconds to do so by itself; below 0 its status is the signal that killed it."""
        return self._ask({"end": number, "grace": grace}, [])

    def _ask(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
            answer = self._control.recv(MESSAGE_BYTES)
        except TimeoutError:
            raise CnnperfError(f"the process that starts workers gave no answer in {PATIENCE:.0f} s") from None
        except ConnectionError:
            answer = b""
        if not answer:
            raise CnnperfError(f"the process that starts workers {told(self._process.wait(), self._errors)}")
        return int(json.loads(answer))


class Process(Stoppable):
    """The worker of one side."""

    def __init__(self, nursery: Nursery, side: Side) -> None:
        """Fork it.

        Raises:
            CnnperfError: If the nursery died.
        """
        self._nursery, self._side = nursery, side
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        self._answers = self._socket.makefile("rb")
        self._number: int | None = None
        try:
            with theirs:
                self._number = nursery.fork(side, [theirs.fileno(), self._errors.fileno()])
        except BaseException:
            self.stop()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises:
            CannotMeasure: If the side's code raised an error.
            CnnperfError: If the process died, or did not answer in ten minutes.
        """
        try:
            self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            line = self._answers.readline()
        except TimeoutError:
            self._end(grace=0.0)
            raise CnnperfError(f"the worker of {self._side.name} gave no answer in {PATIENCE:.0f} s") from None
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise CnnperfError(f"the worker of {self._side.name} {told(self._end(), self._errors)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CannotMeasure(answer["kind"], answer["error"])
        return answer

    def stop(self) -> None:
        """End the process, and wait until it is gone; without its nursery it ends because it is hung up on."""
        self._answers.close()
        self._socket.close()
        if self._nursery.is_alive():
            self._end()
        self._errors.close()

    def _end(self, grace: float = GRACE) -> int:
        number, self._number = self._number, None
        return 0 if number is None else self._nursery.end(number, grace)


def told(status: int, errors: IO[bytes]) -> str:
    """Return how a process ended, and its last words."""
    errors.seek(0)
    last = errors.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
    said = "; it said: " + " | ".join(last) if last else " without a word"
    return f"was killed by signal {-status}{said}" if status < 0 else f"ended with status {status}{said}"
