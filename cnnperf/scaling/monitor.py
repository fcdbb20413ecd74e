"""The watch: a thread of each process that notices when another one is lost, and ends its own with a word.

The main thread may wait in a collective operation or for a device, where neither an exception nor a signal reaches it.
The watch waits for nothing: it shows a sign of life in the store that torchrun keeps, reads those of the others, and
takes the signals that ask the process to end.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cnnperf.exit_status import ExitStatus

BEAT = 0.5  # seconds from sign to sign
SETTLE = 3.0  # seconds in which every process that lives has shown one, however busy its machine is
FINE, LOST, ENDED = "fine", "lost", "ended"
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Peer = tuple[str, int]
"""Host and process id."""


class Heartbeats(Protocol):
    """Store of the heartbeats of all processes."""

    def leave(self, rank: int, sign: str) -> None:
        """Leave a sign for the others."""

    def read(self) -> list[str]:
        """Return the last sign of each process."""


@dataclass
class HeartbeatMonitor:
    """Detection of a lost process from the heartbeats of all. It knows neither threads nor the system.

    Attributes:
        rank: Of this process.
        peers: Host and process id of each process.
        timeout: Seconds without a sign after which a process is lost.
        state: Of this process: `FINE`; `LOST` once it has missed another, and `ENDED` once it has told why it ends.
        cause: What this process saw where it has missed another.
    """

    rank: int
    peers: Sequence[Peer]
    timeout: float
    state: str = FINE
    cause: str = ""

    def __post_init__(self) -> None:
        """Begin when all processes are there."""
        self._count = 0
        self._signs = [""] * len(self.peers)
        self._seen = [-1.0] * len(self.peers)
        self._asked = False
        self._since: float | None = None

    def sign(self) -> str:
        """Return the next sign of this process."""
        self._count += 1
        return f"{self._count} {self.state}"

    def ask_to_end(self) -> None:
        """Note that torchrun, or a person, wants the process to end: mostly because another one has."""
        self._asked = True

    def look(self, signs: Sequence[str], now: float) -> str | None:
        """Take in the signs of all processes.

        Args:
            signs: By rank.
            now: Monotonic seconds.

        Returns:
            None while all is well; else why this process has to end, empty where another one tells it.
        """
        for rank, one in enumerate(signs):
            if one != self._signs[rank] or self._seen[rank] < 0:
                self._signs[rank], self._seen[rank] = one, now
        if self.state != ENDED and any(self._state(rank) == ENDED for rank in self._others()):
            return ""
        if self.state == FINE and not self._asked:
            gone = self._silent(now, max(self.timeout, SETTLE))
            return self._conclusion(gone) if gone else None
        self._since = now if self._since is None else self._since
        return self._conclusion(self._silent(now, SETTLE)) if now - self._since > SETTLE else None

    def lost(self, now: float) -> list[int]:
        """Return the processes that show no sign of life any more."""
        return self._silent(now, SETTLE)

    def _others(self) -> list[int]:
        return [rank for rank in range(len(self.peers)) if rank != self.rank]

    def _state(self, rank: int) -> str:
        return self._signs[rank].partition(" ")[2]

    def _silent(self, now: float, limit: float) -> list[int]:
        return [rank for rank in self._others() if now - self._seen[rank] > limit]

    def _conclusion(self, gone: Sequence[int]) -> str:
        left = set(range(len(self.peers))) - set(gone)
        busy = [rank for rank in self._others() if rank in left and self._state(rank) == FINE]
        waited = self.state == LOST and not (gone or self._asked)
        if self.rank > min(left.difference(busy) if waited else left):  # one tells it for all
            return ""
        if gone:
            return "; ".join(f"{self._name(rank)} died or does not answer" for rank in gone)
        if self._asked:
            return "it was asked to end"
        if busy:
            names = ", ".join(map(self._name, busy))
            return f"{names}: busy for more than {self.timeout:g} s; raise --timeout if a step may take so long"
        return f"the connection between the processes broke, though all of them live: {self.cause}"

    def _name(self, rank: int) -> str:
        host, pid = self.peers[rank]
        return f"process {rank} (pid {pid} on {host})"


class MonitorThread(threading.Thread):
    """Thread that sends the heartbeats of one process, watches those of the others, and ends the process."""

    def __init__(self, monitor: HeartbeatMonitor, signs: Heartbeats, tell: Callable[[str], None]) -> None:
        """Get ready.

        Args:
            monitor: Of this process.
            signs: Of all, by a connection that nothing else uses.
            tell: Prints why the process ends.
        """
        super().__init__(name="cnnperf watch", daemon=True)
        self._monitor, self._signs, self._tell = monitor, signs, tell
        self._done = threading.Event()

    def run(self) -> None:
        """Show signs and look at those of the others until it is over."""
        while not self._done.is_set():
            try:
                self._signs.leave(self._monitor.rank, self._monitor.sign())
                now = time.monotonic()
                told = self._monitor.look(self._signs.read(), now)
            except (RuntimeError, OSError):  # the store went with torchrun
                self._end("torchrun is gone" if self._monitor.rank == 0 else "", ExitStatus.FAILED)
            else:
                if told is not None:
                    self._end_stopped(now)
                    self._end(told, ExitStatus.FAILED)
            self._rest()

    def miss(self, cause: str) -> None:
        """Wait until it is clear which process was lost, and end; called by the main thread, which saw an error."""
        self._monitor.cause, self._monitor.state = cause, LOST
        self.join()

    def end(self, status: int) -> None:
        """End the process after it has told why, and let the others know."""
        self._monitor.state = ENDED
        self._signs.leave(self._monitor.rank, self._monitor.sign())
        leave(status)

    def stop(self) -> None:
        """Stop watching: the run is over."""
        self._done.set()
        self.join()

    def _rest(self) -> None:
        """Wait for a signal, which the main thread could not take while it waits itself."""
        if not hasattr(signal, "sigtimedwait"):  # such as on macOS
            self._done.wait(BEAT)
            return
        taken = signal.sigtimedwait(SIGNALS, BEAT)
        if taken is None:
            return
        if taken.si_signo == signal.SIGINT:
            self._end("interrupted" if self._monitor.rank == 0 else "", ExitStatus.INTERRUPTED)
        self._monitor.ask_to_end()

    def _end(self, told: str, status: int) -> None:
        if told:
            self._tell(told)
            self._monitor.state = ENDED  # so that no other process tells it again
            with suppress(RuntimeError, OSError):  # where the store went with torchrun
                self._signs.leave(self._monitor.rank, self._monitor.sign())
        leave(status)

    def _end_stopped(self, now: float) -> None:
        """Kill processes of this run and machine that are stopped: they would take no other signal."""
        for rank in self._monitor.lost(now):
            host, pid = self._monitor.peers[rank]
            if host == platform.node() and _is_of_run(pid, rank):
                os.kill(pid, signal.SIGKILL)


class SignalThread(threading.Thread):
    """Thread that takes signals while the process group is set up, when there is nothing to report yet."""

    def __init__(self) -> None:
        """Leave the signals that ask to end to this thread and the watch; before any other thread is started."""
        super().__init__(name="cnnperf signals", daemon=True)
        self._done = threading.Event()
        if hasattr(signal, "sigtimedwait"):
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def run(self) -> None:
        """End the process at the first signal."""
        while hasattr(signal, "sigtimedwait") and not self._done.is_set():
            if signal.sigtimedwait(SIGNALS, BEAT):
                leave(ExitStatus.FAILED)

    def stop(self) -> None:
        """Hand over to the watch."""
        self._done.set()
        self.join()


def leave(status: int) -> None:
    """End the process at once: what PyTorch would do on its way out waits for processes that are not there."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)


def _is_of_run(pid: int, rank: int) -> bool:
    """Tell whether a process is the one of this run that it is taken for, and not another with the same number."""
    try:
        theirs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return {f"RANK={rank}".encode(), f"TORCHELASTIC_RUN_ID={run}".encode()} <= set(theirs)
