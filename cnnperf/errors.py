"""The exceptions that cnnperf raises on purpose.

Every message says what was given, what would have been valid and what to do about it.
"""


class CnnperfError(Exception):
    """Base of every error that cnnperf raises on purpose."""


class OptionError(CnnperfError, ValueError):
    """An option, axis or architecture name that cannot be used."""


class UnsupportedCase(CnnperfError):  # noqa: N818 - an answer about a case, not a fault of the program
    """A case that this machine or this build of PyTorch cannot run."""


class OutOfMemory(UnsupportedCase):
    """A case for which there is not enough memory."""


class WrongResult(CnnperfError):  # noqa: N818 - the field's word for what was found
    """A result that differs from its reference by more than the tolerance, or is not finite."""


class RunFileError(CnnperfError, ValueError):
    """A run file that is missing, damaged or not a run file."""
