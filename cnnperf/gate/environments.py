"""An environment for the base, where its dependencies are others than the candidate's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cnnperf.errors import CnnperfError
from cnnperf.gate.sides import Side

AUTO = "auto"
FILES = ("requirements*.txt", "constraints*.txt")
PROJECT = "pyproject.toml"
DECLARED = ("requires-python", "dependencies")
_SHOWN_LINES = 3  # of what pip said


def differing(base: Path, candidate: Path) -> list[str]:
    """Return where the dependencies of two folders are declared otherwise: names of files, and keys of pyproject.toml.

    Raises:
        CnnperfError: If a pyproject.toml cannot be read.
    """
    names = sorted({path.name for folder in (base, candidate) for glob in FILES for path in folder.glob(glob)})
    files = [name for name in names if _lines(base / name) != _lines(candidate / name)]
    declared = [_declared(folder / PROJECT) for folder in (base, candidate)]
    return files + [f"{key} in {PROJECT}" for key in DECLARED if declared[0].get(key) != declared[1].get(key)]


@contextmanager
def interpreter_of(base: Side, candidate: Side, wanted: str, tell: Callable[[str], None]) -> Iterator[str]:
    """Give the interpreter of the base, with `AUTO` in an environment of its own where dependencies differ.

    Raises:
        CnnperfError: If the environment cannot be made.
    """
    changed = differing(base.folder, candidate.folder)
    if not changed:
        yield sys.executable if wanted == AUTO else wanted
        return
    told = f"dependencies differ between the sides ({', '.join(changed)})"
    if wanted != AUTO:
        if wanted == sys.executable:
            tell(f"{told}; both are measured with the packages that are here (--base-python {AUTO} makes others)")
        yield wanted
        return
    tell(f"{told}: making an environment for the base, which can take minutes")
    with tempfile.TemporaryDirectory(prefix="cnnperf-base-") as above:
        yield str(_make(Path(above), base))


def _make(above: Path, base: Side) -> Path:
    _run(base, [sys.executable, "-m", "venv", str(above / "environment")])
    python = above / "environment" / "bin" / "python"
    limits = [word for path in sorted(base.folder.glob("constraints*.txt")) for word in ("-c", str(path))]
    wanted = [word for path in sorted(base.folder.glob("requirements*.txt")) for word in ("-r", str(path))]
    wanted += [str(base.folder)] if (base.folder / PROJECT).exists() else []
    _run(base, [str(python), "-m", "pip", "install", "--quiet", *limits, *wanted])
    return python


def _run(base: Side, command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=base.folder)  # noqa: S603 - no shell, our own words
    if done.returncode != 0:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN_LINES:])
        raise CnnperfError(
            f"no environment for the base {base.label()} could be made: {said}; name an interpreter that has its "
            "packages with --base-python"
        )


def _lines(path: Path) -> list[str] | None:
    """Return what a file of requirements asks for, without comments; None where there is no file."""
    if not path.exists():
        return None
    lines = (line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _declared(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CnnperfError(f"{path}: cannot be read: {error}") from error
    return {key: project.get(key) for key in DECLARED}
