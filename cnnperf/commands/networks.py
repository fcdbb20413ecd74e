"""Search for networks in the source files of a repository, without importing any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

MOST = 3
"""Networks with which a suite begins."""

LEFT_OUT = frozenset({"tests", "test", "docs", "benchmarks", "build", "dist", "site-packages", "node_modules", "venv"})
"""Folders that are not searched, beside hidden ones."""

ROOTS = ("src", "lib", "python")
"""Folders that usually are on Python's path themselves."""

BASES = frozenset({"nn.Module", "Module", "torch.nn.Module"})


def find_networks(folder: Path) -> list[str]:
    """Return the first networks below a folder as `package.module:class`.

    A network is a public class derived from `nn.Module` whose constructor needs no arguments, and which the other
    classes of its file do not use as a part. Files are taken in the order of their depth and name.

    Args:
        folder: Root of the repository.
    """
    found: list[str] = []
    for path in _sources(folder):
        module = _module_of(path.relative_to(folder))
        if module is not None:
            found += [f"{module}:{name}" for name in _networks(path)]
        if len(found) >= MOST:
            break
    return found[:MOST]


def _sources(folder: Path) -> list[Path]:
    paths = [path for path in folder.rglob("*.py") if _is_searched(path.relative_to(folder))]
    return sorted(paths, key=lambda path: (len(path.parts), path))


def _is_searched(path: Path) -> bool:
    folders = path.parts[:-1]
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and LEFT_OUT.isdisjoint(folders) and not path.name.startswith(("test_", "conftest", "setup"))


def _module_of(path: Path) -> str | None:
    """Return the dotted name of a module, or None if it has none."""
    parts = [*path.parts[:-1], *([] if path.stem == "__init__" else [path.stem])]
    if parts and parts[0] in ROOTS:
        del parts[0]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def _networks(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):  # unreadable, not UTF-8, or not of this Python
        return
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and _is_module(node)]
    used = {name.id for node in classes for name in ast.walk(node) if isinstance(name, ast.Name)}
    for node in classes:
        if not node.name.startswith("_") and node.name not in used and _needs_nothing(node):
            yield node.name


def _is_module(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base) in BASES for base in node.bases)


def _needs_nothing(node: ast.ClassDef) -> bool:
    """Return whether the constructor of a class can be called without arguments."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            given = method.args
            needed = len(given.posonlyargs) + len(given.args) - 1 - len(given.defaults)
            return needed <= 0 and all(default is not None for default in given.kw_defaults)
    return False
