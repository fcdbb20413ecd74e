"""Writers of a fleet's dataset in a module of their own, which a process that is started anew can import."""

import os

from cnnperf.runs.fleet import append
from cnnperf.runs.fleet.location import open_location
from cnnperf.testing import MadeHistory

MADE = MadeHistory(runs=12, cases=2, rounds=3, machines=3)


def named(numbers):
    """Return made runs, each with the name that its file would have."""
    return [(f"{number + 1:04}_made", MADE.document(number)) for number in numbers]


def append_overlapping(place, first, barrier):
    """Append half of the runs, once all writers are ready; the next writer appends most of the same ones."""
    documents = named((first + number) % MADE.runs for number in range(MADE.runs // 2))
    barrier.wait()
    return sum(append.append_runs(documents, open_location(place)))


def die_before_renaming(place):
    """Be a writer that is killed when its file is whole and has not got its name yet."""
    append._flush = lambda location, path: os._exit(9)
    list(append.append_runs(named([0]), open_location(place)))
