"""The processes of a gate as seen from the gate: fork servers and workers, their requests, and their end."""

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
from typing import IO, Any, Protocol, Self

from cnnperf.errors import CnnperfError
from cnnperf.gate.sides import Side
from cnnperf.gate.worker import MESSAGE_BYTES
from cnnperf.records.git import without_locations

SCRIPT = Path(__file__).with_name("worker.py")
ANSWER_TIMEOUT = 600.0  # seconds; a compilation can take minutes
GRACE = 2.0  # seconds for a worker to end after its socket was closed, by it or by the gate
SHOWN_LINES = 5  # of the output of a process that died

EAGER_MODULES = ("torch",)
COMPILER_MODULES = ("torch", "torch._inductor.compile_fx")
"""Modules that are loaded before workers are forked: slow to load, and part of neither side."""

WORKER_ENVIRONMENT = {
    # Spinning OpenMP threads multiply the cost of a competing load; huge pages halve the spread between placements.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
    # The compiler's subprocesses would be started before the fork, and shared by all sides.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}
"""Environment variables of workers; a value that is already set takes precedence."""


class CannotMeasure(CnnperfError):  # noqa: N818 - an answer about a case of one side
    """An error of a side that cannot run a case.

    Attributes:
        kind: Name of the class of the side's error.
    """

    def __init__(self, kind: str, message: str) -> None:
        """Store the message, and the name of the error's class."""
        super().__init__(message)
        self.kind = kind


class Peer(Protocol):
    """Something that answers the requests of `worker.Worker`."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer."""


class Stoppable(ABC):
    """A context manager that stops its process at the end."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process."""
        self.stop()

    @abstractmethod
    def stop(self) -> None:
        """Stop the process, and wait until it has ended."""


class ForkServer(Stoppable):
    """Process that loads PyTorch once and forks workers."""

    def __init__(
        self,
        python: str = sys.executable,
        modules: Sequence[str] = EAGER_MODULES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start an interpreter that loads modules; its environment, by default this one, gets `WORKER_ENVIRONMENT`.

        Raises:
            CnnperfError: If the interpreter cannot be started.
        """
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        # SOCK_SEQPACKET preserves message boundaries, and passes file descriptors.
        self._control, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(ANSWER_TIMEOUT)
        variables = os.environ if environment is None else environment
        with server_end:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user runs or names
                    [python, str(SCRIPT), str(server_end.fileno()), *modules],
                    pass_fds=[server_end.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=self._output,
                    env={**WORKER_ENVIRONMENT, **without_locations(variables)},
                )
            except OSError as error:
                self._output.close()
                self._control.close()
                raise CnnperfError(f"{python} cannot be started: {error.strerror or error}") from error

    def stop(self) -> None:
        """Stop the process; its workers end when their sockets are closed."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._output.close()

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def fork(self, side: Side, descriptors: Sequence[int]) -> int:
        """Fork a worker and return its process id; the descriptors are its socket, and a file for its output."""
        request = {
            "paths": [str(path) for path in side.paths()],
            "folder": str(side.folder),
            "top": str(side.top or side.folder),
            "others": [str(tree) for tree in side.others],
        }
        return self._ask(request, descriptors)

    def end(self, pid: int, grace: float) -> int:
        """End a worker and return its exit status, -N for signal N; it is killed after `grace` seconds."""
        return self._ask({"end": pid, "grace": grace}, [])

    def _ask(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
            answer = self._control.recv(MESSAGE_BYTES)
        except TimeoutError:
            raise CnnperfError(f"the fork server of the gate gave no answer in {ANSWER_TIMEOUT:.0f} s") from None
        except ConnectionError:
            answer = b""
        if not answer:
            raise CnnperfError(f"the fork server of the gate {_exit_text(self._process.wait(), self._output)}")
        return int(json.loads(answer))


class Process(Stoppable):
    """The worker of one side."""

    def __init__(self, server: ForkServer, side: Side) -> None:
        """Fork the worker.

        Raises:
            CnnperfError: If the fork server died.
        """
        self._server, self._side = server, side
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._socket, worker_end = socket.socketpair()
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._answers = self._socket.makefile("rb")
        self._pid: int | None = None
        try:
            with worker_end:
                self._pid = server.fork(side, [worker_end.fileno(), self._output.fileno()])
        except BaseException:
            self.stop()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises:
            CannotMeasure: If the side's code raised an error.
            CnnperfError: If the process died, or did not answer within `ANSWER_TIMEOUT`.
        """
        try:
            self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            line = self._answers.readline()
        except TimeoutError:
            self._end(grace=0.0)
            raise CnnperfError(f"the worker of {self._side.name} gave no answer in {ANSWER_TIMEOUT:.0f} s") from None
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise CnnperfError(f"the worker of {self._side.name} {_exit_text(self._end(), self._output)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CannotMeasure(answer["kind"], answer["error"])
        return answer

    def stop(self) -> None:
        """Stop the process, and wait until it has ended; without its fork server, closing the socket ends it."""
        self._answers.close()
        self._socket.close()
        if self._server.is_alive():
            self._end()
        self._output.close()

    def _end(self, grace: float = GRACE) -> int:
        pid, self._pid = self._pid, None
        return 0 if pid is None else self._server.end(pid, grace)


def _exit_text(status: int, output: IO[bytes]) -> str:
    """Return how a process ended, and the last lines of its output."""
    output.seek(0)
    last = output.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
    text = "; it printed: " + " | ".join(last) if last else " without output"
    return f"was killed by signal {-status}{text}" if status < 0 else f"ended with status {status}{text}"
