"""The watchdog: a thread of each process that detects the loss of another process, reports it and ends its own.

The main thread may be blocked in a collective operation or by a device, where neither an exception nor a signal reaches
it. The watchdog is never blocked: it sends heartbeats to torchrun's store, reads those of the others, and handles the
signals that end the process.
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
from typing import Any, NoReturn

from cnnperf.exit_status import ExitStatus

BEAT = 0.5  # seconds between two heartbeats
SETTLE = 3.0  # seconds within which every running process sends a heartbeat, even on a busy machine
FINE, LOST, ENDED = "fine", "lost", "ended"
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Peer = tuple[str, int]
"""Host and process id."""


class StoreHeartbeats:
    """Heartbeats of all processes in torchrun's store."""

    def __init__(self, store: Any, size: int) -> None:
        """Set the store and the number of processes."""
        self._store, self._keys = store, [f"cnnperf/heartbeat/{rank}" for rank in range(size)]

    def send(self, rank: int, heartbeat: str) -> None:
        """Store the heartbeat of a process."""
        self._store.set(self._keys[rank], heartbeat)

    def read(self) -> list[str]:
        """Return the last heartbeat of each process, by rank; blocks until each has sent one."""
        return [heartbeat.decode() for heartbeat in self._store.multi_get(self._keys)]


@dataclass
class HeartbeatMonitor:
    """Detection of a lost process from the heartbeats of all processes, without threads, clocks or system calls.

    Attributes:
        rank: Rank of this process.
        peers: Host and process id of each process, by rank.
        timeout: Seconds without a heartbeat after which a process is lost.
        state: State of this process: `FINE`, `LOST` if it noticed that another is lost, `ENDED` if it reported why it
            ends.
        cause: The error by which this process noticed that another is lost.
    """

    rank: int
    peers: Sequence[Peer]
    timeout: float
    state: str = FINE
    cause: str = ""

    def __post_init__(self) -> None:
        """Start without heartbeats."""
        self._count = 0
        self._heartbeats = [""] * len(self.peers)
        self._changed = [-1.0] * len(self.peers)  # seconds of the last new heartbeat, by rank
        self._ending = False
        self._since: float | None = None

    def heartbeat(self) -> str:
        """Return the next heartbeat of this process: a number and the state."""
        self._count += 1
        return f"{self._count} {self.state}"

    def ask_to_end(self) -> None:
        """Note a signal of torchrun or the user to end; the usual reason is that another process ended."""
        self._ending = True

    def look(self, heartbeats: Sequence[str], now: float) -> str | None:
        """Process the heartbeats of all processes.

        Args:
            heartbeats: Last heartbeats by rank.
            now: Monotonic seconds.

        Returns:
            Why this process has to end, empty if another process reports it; None if it does not have to end.
        """
        for rank, heartbeat in enumerate(heartbeats):
            if heartbeat != self._heartbeats[rank] or self._changed[rank] < 0:
                self._heartbeats[rank], self._changed[rank] = heartbeat, now
        if self.state != ENDED and any(self._state(rank) == ENDED for rank in self._others()):
            return ""
        if self.state == FINE and not self._ending:
            gone = self._silent(now, max(self.timeout, SETTLE))
            return self._conclusion(gone) if gone else None
        self._since = now if self._since is None else self._since
        return self._conclusion(self._silent(now, SETTLE)) if now - self._since > SETTLE else None

    def lost(self, now: float) -> list[int]:
        """Return the ranks of the processes without a recent heartbeat."""
        return self._silent(now, SETTLE)

    def _others(self) -> list[int]:
        return [rank for rank in range(len(self.peers)) if rank != self.rank]

    def _state(self, rank: int) -> str:
        return self._heartbeats[rank].partition(" ")[2]

    def _silent(self, now: float, limit: float) -> list[int]:
        return [rank for rank in self._others() if now - self._changed[rank] > limit]

    def _conclusion(self, gone: Sequence[int]) -> str:
        """Return why this process ends, empty if another process reports it."""
        alive = set(range(len(self.peers))) - set(gone)
        busy = [rank for rank in self._others() if rank in alive and self._state(rank) == FINE]
        timed_out = self.state == LOST and not (gone or self._ending)
        if self.rank > min(alive.difference(busy) if timed_out else alive):  # the lowest rank reports for all
            return ""
        if gone:
            return "; ".join(f"{self._name(rank)} died or does not answer" for rank in gone)
        if self._ending:
            return "ended by SIGTERM from torchrun or the user"
        if busy:
            names = ", ".join(map(self._name, busy))
            return f"{names}: busy for more than {self.timeout:g} s; raise --timeout if a step may take so long"
        return f"the connection between the processes broke, though all processes run: {self.cause}"

    def _name(self, rank: int) -> str:
        host, pid = self.peers[rank]
        return f"process {rank} (pid {pid} on {host})"


class MonitorThread(threading.Thread):
    """Thread that sends the heartbeats of one process, watches those of the others, and ends the process."""

    def __init__(self, monitor: HeartbeatMonitor, heartbeats: StoreHeartbeats, report: Callable[[str], None]) -> None:
        """Prepare the thread.

        Args:
            monitor: Monitor of this process.
            heartbeats: Heartbeats of all processes, over a connection that nothing else uses.
            report: Prints why the process ends.
        """
        super().__init__(name="cnnperf watchdog", daemon=True)
        self._monitor, self._heartbeats, self._report = monitor, heartbeats, report
        self._done = threading.Event()

    def run(self) -> None:
        """Send heartbeats and check those of the others until `stop`."""
        while not self._done.is_set():
            try:
                self._send()
                now = time.monotonic()
                reason = self._monitor.look(self._heartbeats.read(), now)
            except (RuntimeError, OSError):  # the store ended with torchrun
                self._end("torchrun has ended" if self._monitor.rank == 0 else "", ExitStatus.FAILED)
            else:
                if reason is not None:
                    self._kill_lost(now)
                    self._end(reason, ExitStatus.FAILED)
            self._wait()

    def await_cause(self, cause: str) -> None:
        """Block the main thread after an error until the watchdog knows which process is lost and ends this one."""
        self._monitor.cause, self._monitor.state = cause, LOST
        self.join()

    def end(self, status: int) -> NoReturn:
        """End the process after it has reported why, and let the others know."""
        self._announce_end()
        exit_now(status)

    def stop(self) -> None:
        """Stop the thread at the end of the run."""
        self._done.set()
        self.join()

    def _send(self) -> None:
        self._heartbeats.send(self._monitor.rank, self._monitor.heartbeat())

    def _wait(self) -> None:
        """Wait `BEAT` seconds for a signal, which a blocked main thread could not handle."""
        if not hasattr(signal, "sigtimedwait"):  # such as on macOS
            self._done.wait(BEAT)
            return
        received = signal.sigtimedwait(SIGNALS, BEAT)
        if received is None:
            return
        if received.si_signo == signal.SIGINT:
            self._end("interrupted" if self._monitor.rank == 0 else "", ExitStatus.INTERRUPTED)
        self._monitor.ask_to_end()

    def _end(self, reason: str, status: int) -> NoReturn:
        if reason:
            self._report(reason)
            self._announce_end()
        exit_now(status)

    def _announce_end(self) -> None:
        self._monitor.state = ENDED  # so that no other process reports it again
        with suppress(RuntimeError, OSError):  # if the store ended with torchrun
            self._send()

    def _kill_lost(self, now: float) -> None:
        """Kill lost processes of this run and machine: a stopped process receives no other signal."""
        for rank in self._monitor.lost(now):
            host, pid = self._monitor.peers[rank]
            if host == platform.node() and _is_of_run(pid, rank):
                os.kill(pid, signal.SIGKILL)


class SignalThread(threading.Thread):
    """Thread that handles signals while the process group is set up, when there is nothing to report yet."""

    def __init__(self) -> None:
        """Block the signals in this thread and those it starts; call it before any other thread starts."""
        super().__init__(name="cnnperf signals", daemon=True)
        self._done = threading.Event()
        if hasattr(signal, "sigtimedwait"):
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def run(self) -> None:
        """End the process at the first signal."""
        while hasattr(signal, "sigtimedwait") and not self._done.is_set():
            if signal.sigtimedwait(SIGNALS, BEAT):
                exit_now(ExitStatus.FAILED)

    def stop(self) -> None:
        """Stop the thread; the watchdog handles signals from then on."""
        self._done.set()
        self.join()


def exit_now(status: int) -> NoReturn:
    """End the process without PyTorch's cleanup at exit, which waits for processes that may be lost."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)


def _is_of_run(pid: int, rank: int) -> bool:
    """Return whether a process id still belongs to that rank of this run, and not to a new process."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return {f"RANK={rank}".encode(), f"TORCHELASTIC_RUN_ID={run}".encode()} <= set(variables)
