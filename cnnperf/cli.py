"""The command line: arguments and exit codes. What the commands do is the business of other rooms."""

from __future__ import annotations

import argparse
import io
import sys
import traceback
import warnings
from collections.abc import Sequence

import cnnperf
from cnnperf.commands.command import complain
from cnnperf.commands.comparing import COMPARING
from cnnperf.commands.reading import READING
from cnnperf.commands.reporting import REPORTING
from cnnperf.commands.studying import STUDYING
from cnnperf.commands.sweeping import SWEEPING
from cnnperf.errors import CnnperfError
from cnnperf.exit_status import ExitStatus

EPILOG = """\
exit status:
  0  fine
  1  `repeat`: the runs differ; `compare`, `gate`, `history`: something is surely worse; `sweep`: a
     result was wrong
  2  unknown arguments, or a file or a commit that cannot be used
  3  `compare`, `gate`, `history`, `bisect`: something could not be told

Runs are made by `pytest benchmarks --benchmark-autosave` and `cnnperf sweep`, which save them under .benchmarks/.
"""
COMMANDS = (*READING, *REPORTING, *COMPARING, *SWEEPING, *STUDYING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Those after the program's name; by default of this process.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know ± or what is in a name
    warnings.showwarning = _tell_warning
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except CnnperfError as error:
        complain(f"cnnperf: {error}")
    except KeyboardInterrupt:
        complain("cnnperf: interrupted")
        return ExitStatus.INTERRUPTED
    except OSError as error:
        complain(f"cnnperf: {error.filename or 'a file'}: {error.strerror or error}")
    except Exception:  # noqa: BLE001 - Python's own status for it is 1, which says that something is surely worse
        complain(traceback.format_exc())
    return ExitStatus.UNUSABLE


def _tell_warning(message: Warning | str, *_: object, **__: object) -> None:
    complain(f"cnnperf: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnperf",
        description="Read the runs of cnnperf's benchmarks, compare commits, sweep, and study architectures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnperf {cnnperf.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        one = commands.add_parser(command.name, help=command.help, description=description)
        command.add(one)
        one.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
