"""A scripted laboratory in a module of its own, which a process that is started anew can import."""

import os
from dataclasses import dataclass, replace

from cnnperf.errors import WrongResult
from cnnperf.measure.clock import Reading
from cnnperf.measure.measured import Measured
from cnnperf.measure.sampler import Samples

NOISE = (1.0, 1.001, 0.999)


@dataclass
class Scripted:
    """Take the batch as the seconds of a case, one second more in another process; fail as a case asks for."""

    first: int

    def measure_block(self, name, cases, asked, schedule=None):
        if any(case.architecture == "deadly" for case in cases):
            os._exit(7)
        if any(case.architecture == "raising" for case in cases):
            raise ValueError("no such layer")
        results = {case: self._result(case) for case in cases}
        there = {case: result for case, result in results.items() if isinstance(result, Measured)}
        for case, result in there.items():
            others = [there[below] for above, below in asked if above == case and below in there]
            results[case] = replace(result.over(*others), block=name if len(there) > 1 else "")
        return results

    def measure_blocks(self, tasks):
        blocks = [self.measure_block(task.name, task.cases, task.asked, task.schedule) for task in tasks]
        return {case: result for block in blocks for case, result in block.items()}

    def _result(self, case):
        if case.architecture == "wrong" or (case.architecture == "wrong elsewhere" and os.getpid() != self.first):
            return WrongResult("output is wrong")
        seconds = case.batch + float(os.getpid() != self.first)
        shift = case.batch % len(NOISE)
        samples = Samples([[Reading(seconds * factor, seconds)] for factor in NOISE[shift:] + NOISE[:shift]])
        return Measured(case, {"latency": samples.latency()}, samples, [], 0.0)
