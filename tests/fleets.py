"""Made runs of a fleet, for the tests of its dataset."""

from cnnperf.runs.fleet.append import append_runs
from cnnperf.runs.fleet.location import open_location
from cnnperf.testing import MadeHistory

MADE = MadeHistory(runs=12, cases=2, rounds=3, machines=3)


def named(numbers):
    """Return made runs, each with the name that its file would have."""
    return [(f"{number + 1:04}_made", MADE.document(number)) for number in numbers]


def append_all(place, documents):
    """Append runs, and return for each whether it was new."""
    return list(append_runs(documents, open_location(place)))
