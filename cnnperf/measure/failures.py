"""Errors of measured networks, kept as results while other cases are measured."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from cnnperf.errors import CnnperfError, NetworkFailed
from cnnperf.measure.exhaustion import converting_out_of_memory
from cnnperf.records.case import Case


@contextmanager
def converting_failures() -> Iterator[None]:
    """Convert what a network raises inside the block into an error that holds none of its tensors.

    Raises:
        OutOfMemory: If memory runs out.
        NetworkFailed: If the network raises an error of its own, or exits; with the lines that did.
    """
    try:
        with converting_out_of_memory():
            yield
    except CnnperfError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any that a network raises
        lines = "".join(traceback.format_exception(error))
        raise NetworkFailed(f"{type(error).__name__}: {error}; nothing was timed\n\n{lines}") from None


def kept_error(case: Case, error: CnnperfError) -> CnnperfError:
    """Return an error as the result of a case: with its label, and without frames, which keep tensors alive."""
    if isinstance(error, NetworkFailed):
        return NetworkFailed(f"{case.label()}: {error}")
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
