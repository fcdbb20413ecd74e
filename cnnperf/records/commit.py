"""The commit of a run in a checkout without git's own folder, as a copy on another machine is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from cnnperf.errors import OptionError

VARIABLE = "CNNPERF_COMMIT"
UNKNOWN = frozenset({"unversioned", "unknown"})
"""What pytest-benchmark calls the commit where there is no repository, or git does not answer."""

_COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?")


def name_commit(commit_info: MutableMapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Take the commit from `CNNPERF_COMMIT` where pytest-benchmark found none.

    Args:
        commit_info: As pytest-benchmark saves it; changed in place.
        environment: Of the process.

    Raises:
        OptionError: If the variable is no commit.
    """
    named = environment.get(VARIABLE, "")
    if not named or commit_info.get("id") not in UNKNOWN:
        return
    if not _COMMIT.fullmatch(named):
        raise OptionError(
            f"{VARIABLE} takes the 7 to 40 hexadecimal digits of a commit, with -dirty behind them where files differ "
            f"from it, not {named!r}; `git describe --always --dirty --abbrev=40 --exclude '*'` prints it"
        )
    commit, _, dirty = named.partition("-")
    commit_info.update(id=commit, dirty=bool(dirty))


def commit_info() -> dict[str, Any]:
    """Return what pytest-benchmark saves of the commit; raises as `name_commit` does."""
    from pytest_benchmark.utils import get_commit_info

    found: dict[str, Any] = get_commit_info()
    name_commit(found)
    return found
