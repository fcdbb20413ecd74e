"""Errors of measured networks, kept as results while other cases are measured."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnperf.errors import CnnperfError, NetworkFailed
from cnnperf.measure.exhaustion import converting_out_of_memory

OWN = str(Path(__file__).parent.parent)
LIBRARIES = (OWN, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
"""Folders whose code is not the user's."""


@contextmanager
def converting_failures() -> Iterator[None]:
    """Convert what a network raises inside the block into an error that holds none of its tensors.

    Raises:
        OutOfMemory: If memory runs out.
        NetworkFailed: If the network raises an error of its own, or exits; with its traceback.
    """
    try:
        with converting_out_of_memory():
            yield
    except CnnperfError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any that a network raises
        trace = "".join(traceback.format_exception(error))
        raise NetworkFailed(in_one_line(error), trace) from None


def in_one_line(error: BaseException) -> str:
    """Return the last line of a traceback, and the line of the user's code that led to it."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(LIBRARIES)]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name})" if own else ""
    return f"{type(error).__name__}: {text}{place}"


def kept_error(error: CnnperfError) -> CnnperfError:
    """Return an error as the result of a case, without frames, which keep tensors alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
