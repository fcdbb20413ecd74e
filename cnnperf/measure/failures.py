"""Errors of measured networks, kept as results while other cases are measured."""

from __future__ import annotations

import traceback

from cnnperf.errors import CnnperfError, NetworkFailed
from cnnperf.records.case import Case

OWN_ERRORS = (Exception, SystemExit)
"""What a network may raise of its own; a network that exits is no reason to measure no other."""


def network_failed(case: Case, error: BaseException) -> NetworkFailed:
    """Return what a case has for a result whose network raised an error, with the lines that raised it."""
    lines = "".join(traceback.format_exception(error))
    return NetworkFailed(f"{case.label()}: {type(error).__name__}: {error}; nothing was timed\n\n{lines}")


def without_frames(error: CnnperfError) -> CnnperfError:
    """Return an error without its traceback and causes, whose frames keep the tensors of a whole block alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
