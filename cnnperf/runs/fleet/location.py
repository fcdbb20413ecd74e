"""Location of a dataset: a folder or a URL, as a file system of pyarrow and a path in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.errors import RunFileError
from cnnperf.extras import needs_extra

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

MARK = "machine_id="
"""Beginning of the name of a partition. A folder that contains such a folder is a dataset."""

_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER, _ATTEMPTS = 10, 30, 3
_DENIED = "access is denied; check the credentials, such as AWS_ACCESS_KEY_ID or AWS_PROFILE"
_REASONS = (
    *((mark, _DENIED) for mark in ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")),
    ("NO_SUCH_BUCKET", "there is no such bucket; make it first"),
    ("OAuth2 access token", "no access token; check GOOGLE_APPLICATION_CREDENTIALS and the network"),
    ("NETWORK_CONNECTION", "the server cannot be reached; check the network, and AWS_ENDPOINT_URL if it is set"),
)
"""Parts of messages of the libraries of AWS and Google, each with the cause and the remedy."""


@dataclass(frozen=True)
class Location:
    """Location of a dataset.

    Attributes:
        text: Text of the user, for messages.
        filesystem: File system that contains it.
        root: Path in the file system, without a slash at the end.
        puts: Whether files appear whole or not at all, as objects of a store do; otherwise they are written to a
            temporary file and renamed.
    """

    text: str
    filesystem: FileSystem
    root: str
    puts: bool = False

    @contextmanager
    def telling(self, trouble: str) -> Iterator[None]:
        """Raise failures of the file system or of Parquet in one sentence.

        Raises:
            RunFileError: With the location, `trouble` and the cause.
        """
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise RunFileError(f"{self.text}: {trouble}: {_reason(error)}") from error


def is_dataset(place: str | Path) -> bool:
    """Return whether a place is a dataset: any URL, or a folder that contains a partition."""
    if is_url(place):
        return True
    try:
        with os.scandir(place) as entries:
            return any(entry.name.startswith(MARK) for entry in entries)
    except OSError:  # missing, a file, or not readable: reading it raises the error
        return False


def is_url(place: str | Path) -> bool:
    """Return whether a text is a URL and not a path."""
    return isinstance(place, str) and "://" in place


def open_location(place: str | Path) -> Location:
    """Return the location of a folder or a URL without creating anything.

    Raises:
        RunFileError: If the URL is not valid, or the package for its scheme is not installed.
        CnnperfError: If pyarrow is not installed.
    """
    with needs_extra("history", "a fleet's dataset"):
        import pyarrow as pa
        from pyarrow.fs import LocalFileSystem
    if not is_url(place):
        return Location(str(place), LocalFileSystem(), Path(place).absolute().as_posix())
    text = str(place).rstrip("/")
    scheme, _, rest = text.partition("://")
    if not rest.strip("/"):
        raise RunFileError(f"{place}: a URL needs a path, such as s3://bucket/folder or file:///folder")
    try:
        return _OPENERS.get(scheme, _by_fsspec)(text, rest)
    except (OSError, pa.ArrowException) as error:
        raise RunFileError(f"{place}: cannot be opened: {_reason(error)}") from error


def _file(text: str, _: str) -> Location:
    from pyarrow.fs import LocalFileSystem

    filesystem, path = LocalFileSystem.from_uri(text)
    return Location(text, filesystem, path)


def _s3(text: str, rest: str) -> Location:
    """Return a location in S3, or on the compatible server of AWS_ENDPOINT_URL, which pyarrow does not read."""
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not endpoint and not region:
        region = fs.resolve_s3_region(rest.partition("/")[0])
    filesystem = fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=_SECONDS_TO_CONNECT,
        request_timeout=_SECONDS_TO_ANSWER,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request, and not the three of an upload in parts
    )
    return Location(text, filesystem, rest, puts=True)


def _gs(text: str, rest: str) -> Location:
    from pyarrow.fs import GcsFileSystem

    limit = timedelta(seconds=_SECONDS_TO_ANSWER)  # its own is a quarter of an hour
    return Location(text, GcsFileSystem(retry_time_limit=limit), rest, puts=True)


def _by_fsspec(text: str, _: str) -> Location:
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    scheme = text.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(text)
    except ImportError as error:  # it names the package to install
        raise RunFileError(f"{text}: cannot be opened: {error}") from error
    except (TypeError, AttributeError) as error:
        raise RunFileError(f"{text}: {scheme} needs more than a URL, such as credentials: {error}") from error
    except ValueError as error:
        raise RunFileError(
            f"{text}: the scheme {scheme!r} is unknown; allowed are file, s3, gs, and those of fsspec"
        ) from error
    return Location(text, PyFileSystem(FSSpecHandler(filesystem)), path.rstrip("/"))


_OPENERS: Mapping[str, Callable[[str, str], Location]] = {"file": _file, "s3": _s3, "gs": _gs}


def _reason(error: Exception) -> str:
    """Return the cause of a failure as a phrase; messages of libraries are long and may have several lines."""
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    known = [reason for mark, reason in _REASONS if mark in message]
    return known[0] if known else message.splitlines()[0].partition(" (Request ID")[0].rstrip(".")
