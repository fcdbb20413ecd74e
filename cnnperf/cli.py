"""The command line: arguments and exit statuses."""

from __future__ import annotations

import argparse
import io
import sys
import traceback
import warnings
from collections.abc import Sequence

import cnnperf
from cnnperf.commands.command import print_error
from cnnperf.commands.comparing import COMPARING
from cnnperf.commands.reading import READING
from cnnperf.commands.reporting import REPORTING
from cnnperf.commands.starting import STARTING
from cnnperf.commands.studying import STUDYING
from cnnperf.commands.sweeping import SWEEPING
from cnnperf.errors import CnnperfError, DamagedRunWarning
from cnnperf.exit_status import ExitStatus

EPILOG = """\
exit status:
  0    success
  1    `repeat`: the runs differ; `compare`, `gate`, `history`: something is significantly worse;
       `sweep`: a result is wrong
  2    invalid arguments, or a file or a commit that cannot be used
  3    `compare`, `gate`, `history`, `bisect`: the measurements do not allow a verdict
  130  interrupted

`pytest benchmarks --benchmark-autosave` and `cnnperf sweep` save runs under .benchmarks/.
"""
COMMANDS = (*STARTING, *READING, *REPORTING, *COMPARING, *SWEEPING, *STUDYING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments without the program's name; by default those of this process.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the encoding may lack ± or characters of a name
    warnings.showwarning = _print_warning
    args = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            if getattr(args, "strict", False):
                warnings.simplefilter("error", DamagedRunWarning)
            return int(args.run(args))
    except DamagedRunWarning as damaged:
        print_error(f"cnnperf: {str(damaged).removeprefix('left out: ')}")
    except CnnperfError as error:
        print_error(f"cnnperf: {error}")
    except KeyboardInterrupt:
        print_error("cnnperf: interrupted")
        return ExitStatus.INTERRUPTED
    except OSError as error:
        print_error(f"cnnperf: {error.filename or 'a file'}: {error.strerror or error}")
    except Exception:  # noqa: BLE001 - Python's own status for it is 1, which here means a regression
        print_error(traceback.format_exc())
    return ExitStatus.UNUSABLE


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print_error(f"cnnperf: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnperf",
        description="Measure networks, commits and sweeps, read and compare saved runs, and study architectures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnperf {cnnperf.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        subparser = commands.add_parser(
            command.name,
            help=command.help,
            description=description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
