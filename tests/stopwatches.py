"""A scripted stopwatch in a module of its own, which a process that is started anew can import."""

import os
from dataclasses import dataclass


@dataclass
class Scripted:
    """Tell the process's number and the batch, or fail as a case asks for."""

    first: int

    def latency(self, case):
        if case.architecture == "broken":
            raise ValueError("no such layer")
        if case.architecture == "deadly":
            os._exit(7)
        return case.batch + float(os.getpid() != self.first)
