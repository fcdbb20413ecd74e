"""Environment of calls of git, which must see the repository of their folder, and names of unknown commits."""

from __future__ import annotations

import os
from collections.abc import Mapping

LOCATIONS = (
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_NAMESPACE",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_INTERNAL_SUPER_PREFIX",
)
"""Variables that point git to a repository. git sets some of them for hooks and aliases, and `git worktree add` obeys
them: it would check files out into the user's index. Those of configuration (`safe.directory`), of credentials and of
transports stay.

Source: https://git-scm.com/docs/githooks, https://git-scm.com/docs/git-rev-parse (`--local-env-vars`).
"""

VARIABLE = "CNNPERF_COMMIT"
"""Variable that names the commit of a checkout without git's folder."""

UNKNOWN = frozenset({"unversioned", "unknown"})
"""Commit ids that pytest-benchmark writes if there is no repository or git fails."""

READ_ONLY = {"GIT_OPTIONAL_LOCKS": "0"}
"""Keeps `git status` from rewriting the user's index (https://git-scm.com/docs/git, `--no-optional-locks`)."""


def without_locations(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment without the variables that point git to a repository."""
    return {name: value for name, value in environment.items() if name not in LOCATIONS}


def git_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a call of git."""
    return {**without_locations(environment), **READ_ONLY}
