"""Exit statuses of every command, of the gate and of a benchmark run with a baseline."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of a process; README explains them to users.

    Attributes:
        OK: The command did what it was asked for, and nothing is worse.
        FAILED: Something is worse, differs, or failed.
        UNUSABLE: The input cannot be used; nothing was done.
        UNSURE: The measurement does not allow a verdict.
        INTERRUPTED: Ctrl-C, as shells report SIGINT.
    """

    OK = 0
    FAILED = 1
    UNUSABLE = 2
    UNSURE = 3
    INTERRUPTED = 130
