"""The processes of a gate: a fork server that loads PyTorch, and a forked worker for each side that times its cases.

This file is run as a script. The timed code comes from a side; the timing code is this file, so that all sides are
timed in the same way. Whatever it imports from a side's cnnperf, and the methods that it calls, have to keep names and
signatures: older commits are measured with it.

Workers are forked so that PyTorch and the interpreter lie at the same addresses, in the same pages of memory, for all
sides. In processes that are started separately they do not: beside a competing load, a case of many tiny calls differed
by 5 % between two processes as long as they lived, though both ran the same code.

A worker reads requests as lines of JSON from a socket, and answers each with one line. The side's output goes to a
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
    """Receiver of the requests about one side, with one case at a time; each public method is a request."""

    def __init__(self, top: str = "", others: list[str] | None = None) -> None:
        """Start without a case; PyTorch is loaded with the first request that needs it.

        Args:
            top: Root of the side's checkout.
            others: Roots of the other work trees of the repository, from which no code may come.
        """
        self._top, self._others = top, others or []
        self._workload: Any = None
        self._in_force = ExitStack()
        self._synchronize: Callable[[], None] = lambda: None

    def plan(self, options: dict[str, list[str]]) -> Answer:
        """Return the axes of the cases that the options of the suite select."""
        from cnnperf.suite.options import parse_options

        parsed = parse_options({key: tuple(texts) for key, texts in options.items()})
        plan = parsed.plan()
        cases = [case.axes() for row in parsed.architectures() for case in plan.cases(row)]
        check_origins(self._top, self._others)
        return {"cases": cases}

    def environment(self, input_kind: str, allocator: str) -> Answer:
        """Return the environment in which the cases are timed."""
        from cnnperf.measure.allocator import apply_policy
        from cnnperf.measure.environment import read_environment

        return {"environment": read_environment(cpu_allocator=apply_policy(allocator), input_kind=input_kind)}

    def count(self, axes: dict[str, Any], input_kind: str) -> Answer:
        """Return counters and results of a case; never in a process that times."""
        from cnnperf.measure.counting import count
        from cnnperf.records.case import Case

        counts = count(Case.from_axes(axes), input_kind)
        check_origins(self._top, self._others)
        return counts

    def build(
        self,
        axes: dict[str, Any],
        seed: int,
        input_kind: str = "synthetic",
        allocator: str = "retain",
        cudnn_benchmark: bool = False,  # noqa: FBT001, FBT002 - a field of the request
    ) -> Answer:
        """Build a case, compile it if its engine does, and run one round."""
        import torch

        from cnnperf.measure.allocator import apply_policy
        from cnnperf.measure.support import in_force
        from cnnperf.measure.workload import Workload
        from cnnperf.records.case import Case

        apply_policy(allocator)
        torch.backends.cudnn.benchmark = cudnn_benchmark
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
        check_origins(self._top, self._others)
        return {}

    def place(self) -> Answer:
        """Put all tensors at fresh addresses, and run one round."""
        self._workload.relocate()
        self._round()
        return {}

    def time(self, rounds: int, warm: int) -> Answer:
        """Run `warm` untimed rounds, then return the wall and CPU seconds of each of `rounds` rounds."""
        for _ in range(warm):
            self._round()
        readings = [self._round() for _ in range(rounds)]
        return {"wall": [wall for wall, _ in readings], "cpu": [cpu for _, cpu in readings]}

    def _round(self) -> tuple[float, float]:
        """Run one round and return its wall and CPU seconds."""
        workload = self._workload
        workload.setup()
        self._synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        workload.run()
        self._synchronize()
        return time.perf_counter() - wall, time.process_time() - cpu


class WrongSide(Exception):  # noqa: N818 - no fault of the program
    """Code of the work tree that was imported where a commit should be measured."""


def translated(path: str, top: str, others: list[str]) -> str:
    """Return a path in another work tree as the one in the side's checkout; others, and installed packages, stay."""
    real = os.path.realpath(path) if path else ""
    installed = "site-packages" in Path(real).parts or _lies_in(real, os.path.realpath(sys.prefix))
    if installed or _lies_in(real, top):
        return path
    containing = [tree for tree in others if _lies_in(real, tree)]
    return top + real[len(max(containing, key=len)) :] if containing else path


def redirect(top: str, others: list[str]) -> None:
    """Let what would come from another work tree, by an editable install or PYTHONPATH, come from the checkout."""
    sys.path[:] = [translated(path, top, others) for path in sys.path]
    for finder in sys.meta_path:
        tables = (
            getattr(sys.modules.get(getattr(finder, "__module__", "")), "MAPPING", None),  # setuptools
            getattr(finder, "_redirections", None),  # editables, of hatchling and pdm
        )
        for table in tables:
            if isinstance(table, dict):
                table.update({name: translated(str(path), top, others) for name, path in table.items()})


def check_origins(top: str, others: list[str]) -> None:
    """Check that no module came from another work tree.

    Raises:
        WrongSide: If one did, so that both sides would run the same code.
    """
    folders: dict[str, bool] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name == "__main__":  # this file, of the cnnperf that measures
            continue
        folder = str(Path(file).parent)
        if folder not in folders:
            folders[folder] = translated(folder, top, others) != folder
        if folders[folder]:
            raise WrongSide(
                f"{name} was imported from another work tree ({file}), so that both sides would run the same code. "
                "Make it importable by a path: run the gate in the folder that contains it, or install the package "
                "with a path (`.pth`) instead of an import hook"
            )


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def answer_all(worker: Worker, read: Any, write: Any) -> None:
    """Answer requests until the input ends; an error of the side's code is an answer with `error` and `kind`."""
    for line in read:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001 - the side's code may fail in any way, and the gate has to know
            traceback.print_exc()
            answer = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
        write.write(json.dumps(answer) + "\n")
        write.flush()


def run_worker(request: dict[str, Any], connection: int, output: int) -> None:
    """Import from the side's folders, and answer requests until the gate closes the connection.

    `request` has the side's `paths`, `folder` and `top`, and the `others`, see `Worker`. `connection` is the descriptor
    of a socket, `output` that of a file for the standard output and error.
    """
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(request["folder"])
    redirect(request["top"], request["others"])
    sys.path[:0] = request["paths"]
    gc.disable()  # a collection must not fall into a round; `build` collects
    with socket.socket(fileno=connection) as ours, ours.makefile("r") as read, ours.makefile("w") as write:
        answer_all(Worker(request["top"], request["others"]), read, write)


def fork(request: dict[str, Any], descriptors: list[int], control: socket.socket) -> int:
    """Fork a worker and return its process id; in the worker, never return."""
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    status = 1
    try:
        control.close()
        run_worker(request, *descriptors)
        status = 0
    except SystemExit as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:  # noqa: BLE001 - the worker is a copy of the server and must not continue as one
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(pid: int, grace: float) -> int:
    """Wait `grace` seconds for a worker to end, then kill it; return its exit status, -N for signal N."""
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve(control: socket.socket) -> None:
    """Fork and end workers as the gate requests, until it closes the socket."""
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
    """Run the fork server; the arguments are the descriptor of a socket and the modules to load first."""
    control, *modules = sys.argv[1:]
    if Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]  # sides must not import the gate's own modules
    for module in modules:
        with suppress(ImportError):  # a worker that needs the module reports it
            import_module(module)
    serve(socket.socket(fileno=int(control)))


if __name__ == "__main__":
    main()
