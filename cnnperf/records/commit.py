"""The commit of a run in a checkout without a .git folder, such as a copy on another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from cnnperf.errors import OptionError
from cnnperf.records.git import UNKNOWN, VARIABLE

_COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?")


def name_commit(commit_info: MutableMapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Take the commit from `CNNPERF_COMMIT` if pytest-benchmark found none.

    Args:
        commit_info: As pytest-benchmark saves it; changed in place.
        environment: Environment variables of the process.

    Raises:
        OptionError: If the variable is not a commit.
    """
    value = environment.get(VARIABLE, "")
    if not value or commit_info.get("id") not in UNKNOWN:
        return
    if not _COMMIT.fullmatch(value):
        raise OptionError(
            f"{VARIABLE} takes the 7 to 40 hexadecimal digits of a commit, with -dirty behind them if files differ "
            f"from it, not {value!r}; `git describe --always --dirty --abbrev=40 --exclude '*'` prints it"
        )
    commit, _, dirty = value.partition("-")
    commit_info.update(id=commit, dirty=bool(dirty))


def commit_info() -> dict[str, Any]:
    """Return what pytest-benchmark saves about the commit; raises as `name_commit` does."""
    from pytest_benchmark.utils import get_commit_info

    info: dict[str, Any] = get_commit_info()
    name_commit(info)
    return info
