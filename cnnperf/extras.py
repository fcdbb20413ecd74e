"""Optional dependencies, which users install as extras of the distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnnperf.errors import CnnperfError


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn an ImportError inside the block into an error that says what to install.

    Args:
        extra: Name of the extra, such as `report`.
        purpose: What needs the import, such as `a page`.

    Raises:
        CnnperfError: If a package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        package = error.name.partition(".")[0] if error.name else f"that failed to import: {error}"
        raise missing_package(package, extra, purpose) from error


def missing_package(package: str, extra: str, purpose: str) -> CnnperfError:
    """Return the error that names a missing package, what needs it and how to install it."""
    return CnnperfError(f"{purpose} needs the package {package}; pip install 'cnnperf[{extra}]'")
