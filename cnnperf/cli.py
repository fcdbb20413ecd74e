"""The command line: arguments and exit codes. What the commands do is the business of other rooms."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

import cnnperf
from cnnperf.commands.command import FINE, INTERRUPTED, UNUSABLE
from cnnperf.commands.comparing import COMPARING
from cnnperf.commands.reading import READING
from cnnperf.commands.reporting import REPORTING
from cnnperf.errors import CnnperfError

EPILOG = """\
exit status:
  0  fine
  1  `repeat`: the runs differ; `compare`, `gate`, `history`: something is surely worse
  2  unknown arguments, or a file or a commit that cannot be used
  3  `compare`, `gate`, `history`, `bisect`: something could not be told

Runs are made by `pytest benchmarks --benchmark-autosave`, which saves them under .benchmarks/.
"""
COMMANDS = (*READING, *REPORTING, *COMPARING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Those after the program's name; by default of this process.

    Returns:
        The exit status.
    """
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except CnnperfError as error:
        sys.stderr.write(f"cnnperf: {error}\n")
        return UNUSABLE
    except KeyboardInterrupt:
        sys.stderr.write("cnnperf: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # such as `cnnperf show ... | head`: the reader has what it wanted
        # Python flushes once more at exit; see https://docs.python.org/3/library/signal.html#note-on-sigpipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except Exception:  # noqa: BLE001 - Python's own status for it is 1, which says that something is surely worse
        traceback.print_exc()
        return UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnperf",
        description="Read the runs of cnnperf's benchmarks, and compare commits.",
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
