"""The processes of a gate: one that loads PyTorch and then forks a worker for each side, which times that side's cases.

This file is run as a script. The code that is timed comes from a side; how it is timed is written here, so that all
sides are timed in the same way. Of a side's cnnperf it uses `Case`, `Workload`, `count` and the options, whose names
have to stay.

Workers are forked because then PyTorch and the interpreter lie at the same addresses, in the same pages of memory, for
all sides. In processes that are started one by one they do not, and then, beside a competing load, a case of many tiny
calls was seen to differ between two of them by 5 % as long as they lived, though both ran the same code.

A worker reads requests as lines of JSON from a socket, and answers each with one line. What the side prints goes to a
file.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 1 << 16

Answer = dict[str, Any]


class Worker:
    """Answer requests about one case at a time."""

    def __init__(self) -> None:
        """Start without a case; PyTorch is loaded with the first request that needs it."""
        self._workload: Any = None
        self._in_force = ExitStack()
        self._synchronize: Callable[[], None] = lambda: None

    def plan(self, given: dict[str, list[str]]) -> Answer:
        """Return the axes of the cases that the options stand for."""
        from cnnperf.suite.options import parse_options

        options = parse_options({key: tuple(texts) for key, texts in given.items()})
        plan = options.plan()
        return {"cases": [case.axes() for row in options.architectures() for case in plan.cases(row)]}

    def environment(self, input_kind: str, allocator: str) -> Answer:
        """Return the environment in which the cases are timed."""
        from cnnperf.measure.allocator import apply_policy
        from cnnperf.measure.environment import read_environment

        return {"environment": read_environment(cpu_allocator=apply_policy(allocator), input_kind=input_kind)}

    def count(self, axes: dict[str, Any], input_kind: str) -> Answer:
        """Return counters and results of a case, in a process that times nothing."""
        from cnnperf.measure.counting import count
        from cnnperf.records.case import Case

        return count(Case.from_axes(axes), input_kind)

    def build(self, axes: dict[str, Any], input_kind: str, seed: int, allocator: str) -> Answer:
        """Build a case, compile it where it is compiled, and run a round of it."""
        import torch

        from cnnperf.measure.allocator import apply_policy
        from cnnperf.measure.support import in_force
        from cnnperf.measure.workload import Workload
        from cnnperf.records.case import Case

        apply_policy(allocator)
        self._workload = None
        gc.collect()
        torch.compiler.reset()
        case = Case.from_axes(axes)
        self._in_force.close()
        self._in_force.enter_context(in_force(case))
        workload = Workload(case, input_kind=input_kind, seed=seed)
        if case.compiled:
            workload.compile()
        self._workload = workload
        self._synchronize = torch.cuda.synchronize if workload.images.is_cuda else lambda: None
        self._round()
        return {}

    def place(self) -> Answer:
        """Put all tensors at fresh addresses, and run a round there."""
        self._workload.relocate()
        self._round()
        return {}

    def time(self, rounds: int, warm: int) -> Answer:
        """Run rounds, of which the first `warm` do not count, and return their wall and CPU seconds."""
        for _ in range(warm):
            self._round()
        taken = [self._round() for _ in range(rounds)]
        return {"wall": [wall for wall, _ in taken], "cpu": [cpu for _, cpu in taken]}

    def _round(self) -> tuple[float, float]:
        workload = self._workload
        workload.setup()
        self._synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        workload.run()
        self._synchronize()
        return time.perf_counter() - wall, time.process_time() - cpu


def answer_all(worker: Worker, read: Any, write: Any) -> None:
    """Answer requests until there are no more; an error is an answer too."""
    for line in read:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001 - the side's code may fail in any way, and the gate has to be told
            traceback.print_exc()
            answer = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
        write.write(json.dumps(answer) + "\n")
        write.flush()


def live(paths: list[str], folder: str, connection: int, errors: int) -> None:
    """Be a worker: import from the side's folders, and answer until the gate hangs up."""
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.chdir(folder)
    sys.path[:0] = paths
    gc.disable()  # a collection in the middle of a round is not the round's time; cases are built anew often
    with socket.socket(fileno=connection) as ours, ours.makefile("r") as read, ours.makefile("w") as write:
        answer_all(Worker(), read, write)


def fork(request: dict[str, Any], descriptors: list[int], control: socket.socket) -> int:
    """Return the number of a new worker; in the worker, never return."""
    number = os.fork()
    if number:
        for descriptor in descriptors:
            os.close(descriptor)
        return number
    status = 1
    try:
        control.close()
        live(request["paths"], request["folder"], *descriptors)
        status = 0
    except SystemExit as end:
        sys.stderr.write(f"{end}\n")
    except BaseException:  # noqa: BLE001 - whatever it is, it must not go on in a second copy of the parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(number: int, grace: float) -> int:
    """Return the exit status of a worker that may end by itself for some seconds, and is then killed."""
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(number, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def serve(control: socket.socket) -> None:
    """Fork workers and end them, as the gate says, until it hangs up."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
        if not message:
            return
        request = json.loads(message)
        if "end" in request:
            answer = end(request["end"], request["grace"])
        else:
            answer = fork(request, list(descriptors), control)
        control.send(json.dumps(answer).encode())


def main() -> None:
    """Load what the sides share, and serve; the arguments are a socket and the modules to load."""
    control, *modules = sys.argv[1:]
    if Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]  # the folder of this script holds modules that are nobody else's business
    for module in modules:
        with suppress(ImportError):  # a worker that needs it will say so
            import_module(module)
    serve(socket.socket(fileno=int(control)))


if __name__ == "__main__":
    main()
