"""A Python environment for the base, for sides whose declared dependencies differ."""

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
from cnnperf.records.git import without_locations

AUTO = "auto"
FILES = ("requirements*.txt", "constraints*.txt")
PROJECT = "pyproject.toml"
DECLARED = ("requires-python", "dependencies")
_SHOWN_LINES = 3  # of pip's output


def differing(base: Path, candidate: Path) -> list[str]:
    """Return the files, and keys of pyproject.toml, that declare different dependencies in two folders.

    Files that are not valid text or TOML are compared by their bytes.
    """
    names = sorted({path.name for folder in (base, candidate) for path in _files(folder, *FILES)})
    files = [name for name in names if _lines(base / name) != _lines(candidate / name)]
    before, after = _declared(base / PROJECT), _declared(candidate / PROJECT)
    return files + [f"{key} in {PROJECT}" for key in DECLARED if before.get(key) != after.get(key)]


@contextmanager
def interpreter_of(base: Side, candidate: Side, python: str, progress: Callable[[str], None]) -> Iterator[str]:
    """Provide the interpreter `python` for the base; for `AUTO`, one in a temporary environment if dependencies differ.

    Raises:
        CnnperfError: If the environment cannot be created.
    """
    changed = differing(base.folder, candidate.folder)
    if not changed:
        yield sys.executable if python == AUTO else python
        return
    difference = f"dependencies differ between the sides ({', '.join(changed)})"
    if python != AUTO:
        if python == sys.executable:
            progress(
                f"{difference}; both are measured with the installed packages (--base-python {AUTO} creates an "
                "environment for the base)"
            )
        yield python
        return
    progress(f"{difference}: creating an environment for the base, which can take minutes")
    with tempfile.TemporaryDirectory(prefix="cnnperf-base-") as parent:
        yield str(_create(Path(parent), base, candidate))


def _create(parent: Path, base: Side, candidate: Side) -> Path:
    """Create an environment with the installed versions, except of packages that the sides declare differently."""
    # -I: the working directory is the base's, which may have a module named like one of Python's.
    _run(base, [sys.executable, "-I", "-m", "venv", str(parent / "environment")])
    python = parent / "environment" / "bin" / "python"
    changed = changed_packages(base.folder, candidate.folder)
    pins = sorted(
        f"{package.name}=={package.version}"
        for package in metadata.distributions()
        if package.name and _normalized(package.name) not in changed
    )
    (parent / "pins.txt").write_text("\n".join(pins), encoding="utf-8")
    arguments: list[str] = []
    for path in (parent / "pins.txt", *_files(base.folder, FILES[1])):
        arguments += ["-c", str(path)]
    for path in _files(base.folder, FILES[0]):
        arguments += ["-r", str(path)]
    if (base.folder / PROJECT).exists():
        arguments.append(str(base.folder))
    _run(base, [str(python), "-m", "pip", "install", "--quiet", *arguments])
    return python


def changed_packages(base: Path, candidate: Path) -> set[str]:
    """Return the normalized names of the packages that two folders require differently."""
    names = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in _required(base) ^ _required(candidate))
    return {_normalized(name[0]) for name in names if name}


def _required(folder: Path) -> set[str]:
    """Return the requirements that a folder declares in pyproject.toml and its requirements files."""
    declared = _declared(folder / PROJECT).get("dependencies")
    requirements = {str(line) for line in declared} if isinstance(declared, list) else set()
    for path in _files(folder, *FILES):
        lines = _lines(path)
        if isinstance(lines, list):
            requirements.update(lines)
    return requirements


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(folder: Path, *globs: str) -> list[Path]:
    return sorted(path for glob in globs for path in folder.glob(glob) if path.is_file())


def _run(base: Side, command: Sequence[str]) -> None:
    done = subprocess.run(  # noqa: S603 - no shell, our own words
        command, capture_output=True, text=True, check=False, cwd=base.folder, env=without_locations()
    )
    if done.returncode != 0:
        output = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN_LINES:])
        raise CnnperfError(
            f"no environment could be created for the base {base.label()}: {output}; name an interpreter that has its "
            "packages with --base-python"
        )


def _lines(path: Path) -> list[str] | bytes | None:
    """Return the lines of a requirements file without comments; its bytes if they are not text; None if missing."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        lines = [line.partition(" #")[0].strip() for line in content.decode().splitlines()]
    except UnicodeDecodeError:
        return content
    return [line for line in lines if line and not line.startswith("#")]


def _declared(path: Path) -> Mapping[str, object]:
    """Return the values of `DECLARED` in a pyproject.toml; its bytes for each if it is not valid TOML."""
    if not path.is_file():
        return {}
    content = path.read_bytes()
    try:
        project = tomllib.loads(content.decode()).get("project", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return dict.fromkeys(DECLARED, content)
    return {key: project.get(key) for key in DECLARED} if isinstance(project, dict) else {}
