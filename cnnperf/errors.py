"""Exceptions that cnnperf raises on purpose.

Every message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CnnperfError(Exception):
    """Base of every error that cnnperf raises on purpose."""


class OptionError(CnnperfError, ValueError):
    """An option, axis or architecture name that cannot be used."""


class UnsupportedCase(CnnperfError):  # noqa: N818 - describes a case, not a fault of the program
    """A case that this machine or this build of PyTorch cannot run."""


class OutOfMemory(UnsupportedCase):
    """A case that needs more memory than there is."""


class WrongResult(CnnperfError):  # noqa: N818 - describes the measured network, not a fault of the program
    """A result that differs from its reference by more than the tolerance, or is not finite."""


class NetworkFailed(CnnperfError):  # noqa: N818 - describes the measured network, not a fault of the program
    """An error of the measured network itself.

    Attributes:
        trace: Whole traceback as text.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        """Keep the traceback apart from the message, which is one line."""
        super().__init__(message)
        self.trace = trace


class Interrupted(KeyboardInterrupt):
    """An interrupt by the user (Ctrl-C) after which something measured is kept.

    Attributes:
        results: Results by case.
    """

    def __init__(self, results: Mapping[Any, Any]) -> None:
        """Keep the results."""
        super().__init__()
        self.results = results


class RunFileError(CnnperfError, ValueError):
    """A run file that is missing, damaged or not a run file."""


class DamagedRunWarning(UserWarning):
    """A damaged file in a folder of runs, which is left out; `warnings.simplefilter("error", ...)` refuses it."""
