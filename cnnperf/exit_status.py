"""Exit statuses of all commands, including the gate and benchmark runs with a baseline."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of a process; the README documents them for users.

    Attributes:
        OK: The command succeeded, and nothing is worse.
        FAILED: Something is worse, differs, or failed.
        UNUSABLE: The input is invalid; nothing was done.
        UNSURE: The measurement does not allow a verdict.
        INTERRUPTED: Ctrl-C, as shells report SIGINT.
    """

    OK = 0
    FAILED = 1
    UNUSABLE = 2
    UNSURE = 3
    INTERRUPTED = 130
