"""One side of a gate: a process that times the cases of the code it was given, as it is told line by line.

This file is run as a script, in a process of its own, by whichever Python belongs to the side. The code that is timed
comes from the side; how it is timed is written here, so that both sides are timed in the same way. Of the side's
cnnperf it uses `Case`, `Workload` and the options, whose names have to stay.

It reads requests as lines of JSON from its standard input, and answers each with one line. What the side prints goes to
standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]


class Worker:
    """Answer requests about one case at a time."""

    def __init__(self) -> None:
        """Start without a case; PyTorch is loaded with the first request that needs it."""
        self._workload: Any = None
        self._synchronize: Callable[[], None] = lambda: None

    def plan(self, given: dict[str, list[str]]) -> Answer:
        """Return the axes of the cases that the options stand for."""
        from cnnperf.options import parse_options

        options = parse_options({key: tuple(texts) for key, texts in given.items()})
        plan = options.plan()
        return {"cases": [case.axes() for row in options.architectures() for case in plan.cases(row)]}

    def count(self, axes: dict[str, Any], input_kind: str) -> Answer:
        """Return counters and results of a case, in a process that times nothing."""
        from cnnperf.measure.case import Case
        from cnnperf.measure.counting import count

        return count(Case.from_axes(axes), input_kind)

    def build(self, axes: dict[str, Any], input_kind: str, seed: int, allocator: str) -> Answer:
        """Build a case, compile it where it is compiled, and run a round of it."""
        import torch

        from cnnperf.measure.allocator import apply_policy
        from cnnperf.measure.case import Case
        from cnnperf.measure.workload import Workload

        apply_policy(allocator)
        self._workload = None
        gc.collect()
        torch.compiler.reset()
        workload = Workload(Case.from_axes(axes), input_kind=input_kind, seed=seed)
        if workload.case.engine == "compile":
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


def main() -> None:
    """Take the side's folders from the arguments, and answer."""
    # The folder of this script is not the side's, and holds modules that are none of its business.
    sys.path[:1] = sys.argv[1:]
    write = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.disable()  # a collection in the middle of a round is not the round's time; cases are built anew often
    answer_all(Worker(), sys.stdin, write)


if __name__ == "__main__":
    main()
