"""Packages that only some of cnnperf needs: the extras of its distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnnperf.errors import CnnperfError


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import into an error that says what to install.

    Args:
        extra: Name of the extra, such as `report`.
        purpose: What the import is for, such as `a page`.

    Raises:
        CnnperfError: If a package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        package = error.name.partition(".")[0] if error.name else f"that this is about: {error}"
        raise missing_package(package, extra, purpose) from error


def missing_package(package: str, extra: str, purpose: str) -> CnnperfError:
    """Return the error that says which package is missing, what it is for and how to install it."""
    return CnnperfError(f"{purpose} needs the package {package}; pip install 'cnnperf[{extra}]'")
