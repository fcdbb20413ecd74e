"""The exceptions that cnnperf raises on purpose.

Every message says what was given, what would have been valid and what to do about it.
"""


class CnnperfError(Exception):
    """Be the base of every error that cnnperf raises on purpose."""


class OptionError(CnnperfError, ValueError):
    """Report an option, axis or architecture name that cannot be used."""


class UnsupportedCase(CnnperfError):  # noqa: N818 - an answer about a case, not a fault of the program
    """Report a case that this machine or this build of PyTorch cannot run."""


class OutOfMemory(UnsupportedCase):
    """Report a case for which there is not enough memory."""


class WrongResult(CnnperfError):  # noqa: N818 - the field's word for what was found
    """Report a result that differs from its reference by more than the tolerance, or is not finite."""


class RunFileError(CnnperfError, ValueError):
    """Report a run file that is missing, damaged or not a run file."""
