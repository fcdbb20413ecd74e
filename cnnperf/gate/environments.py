"""An environment for the base, where its dependencies are others than the candidate's."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
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

    What cannot be read as text or as TOML differs where its bytes do.
    """
    names = sorted({path.name for folder in (base, candidate) for path in _files(folder, *FILES)})
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
        yield str(_make(Path(above), base, candidate))


def _make(above: Path, base: Side, candidate: Side) -> Path:
    """Make an environment with the packages that are here, but for those that are declared otherwise."""
    # -I: the folder is the base's, and a module of its own may be named like one of Python's.
    _run(base, [sys.executable, "-I", "-m", "venv", str(above / "environment")])
    python = above / "environment" / "bin" / "python"
    changed = changed_packages(base.folder, candidate.folder)
    pins = sorted(
        f"{found.name}=={found.version}"
        for found in metadata.distributions()
        if found.name and _normal(found.name) not in changed
    )
    (above / "pins.txt").write_text("\n".join(pins), encoding="utf-8")
    limits = [word for path in (above / "pins.txt", *_files(base.folder, FILES[1])) for word in ("-c", str(path))]
    wanted = [word for path in _files(base.folder, FILES[0]) for word in ("-r", str(path))]
    wanted += [str(base.folder)] if (base.folder / PROJECT).exists() else []
    _run(base, [str(python), "-m", "pip", "install", "--quiet", *limits, *wanted])
    return python


def changed_packages(base: Path, candidate: Path) -> set[str]:
    """Return the names of the packages that one folder asks for otherwise than the other."""
    asked = []
    for folder in (base, candidate):
        declared = _declared(folder / PROJECT).get("dependencies")
        lines = {str(line) for line in declared} if isinstance(declared, list) else set()
        for path in _files(folder, *FILES):
            found = _lines(path)
            lines |= set(found) if isinstance(found, list) else set()
        asked.append(lines)
    names = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in asked[0] ^ asked[1])
    return {_normal(name[0]) for name in names if name}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(folder: Path, *globs: str) -> list[Path]:
    return sorted(path for glob in globs for path in folder.glob(glob) if path.is_file())


def _run(base: Side, command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=base.folder)  # noqa: S603 - no shell, our own words
    if done.returncode != 0:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN_LINES:])
        raise CnnperfError(
            f"no environment for the base {base.label()} could be made: {said}; name an interpreter that has its "
            "packages with --base-python"
        )


def _lines(path: Path) -> list[str] | bytes | None:
    """Return what a file of requirements asks for, without comments; its bytes where they are no text."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        lines = [line.partition(" #")[0].strip() for line in content.decode().splitlines()]
    except UnicodeDecodeError:
        return content
    return [line for line in lines if line and not line.startswith("#")]


def _declared(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        return {}
    content = path.read_bytes()
    try:
        project = tomllib.loads(content.decode()).get("project", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return dict.fromkeys(DECLARED, content)
    return {key: project.get(key) for key in DECLARED} if isinstance(project, dict) else {}
