"""The files of a dataset that may hold selected rows: the path tells machine, month and run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cnnperf.errors import RunFileError
from cnnperf.runs.fleet.layout import NO_MONTH, SUFFIX, file_prefix, machine_folder, month_name
from cnnperf.runs.fleet.location import MARK, Location
from cnnperf.runs.selection import Selection

LISTERS = 16
"""Folders listed at once."""


def list_files(location: Location, selection: Selection) -> list[str]:
    """Return the paths of the files that may hold selected rows, ordered by machine and month.

    Args:
        location: Location of the dataset.
        selection: Selection; its machines, runs and period are used.

    Raises:
        RunFileError: If the dataset cannot be listed, or it has no run.
    """
    with location.telling("cannot be read"), ThreadPoolExecutor(LISTERS) as listers:
        machines = [path for path in _folders(location, location.root) if _name(path).startswith(MARK)]
        chosen = [path for path in machines if _is_of_machine(_name(path), selection)]
        months = [path for found in listers.map(partial(_folders, location), chosen) for path in found]
        chosen = [path for path in months if _is_of_time(_name(path), selection)]
        files = [path for found in listers.map(partial(_files, location), chosen) for path in found]
    if not machines:
        raise RunFileError(f"{location.text}: no runs in it; `cnnperf export --parquet {location.text}` appends some")
    prefixes = tuple(file_prefix(str(name)) for name in selection.where.get("run", ("",)))
    return [path for path in files if _is_run(_name(path), prefixes)]


def _folders(location: Location, path: str) -> list[str]:
    return _entries(location, path, "Directory")


def _files(location: Location, path: str) -> list[str]:
    return _entries(location, path, "File")


def _entries(location: Location, path: str, kind: str) -> list[str]:
    from pyarrow.fs import FileSelector, FileType

    infos = location.filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    return sorted(info.path for info in infos if info.type == FileType[kind])


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_of_machine(folder: str, selection: Selection) -> bool:
    machines = selection.where.get("machine")
    return machines is None or folder in {machine_folder(str(machine)) for machine in machines}


def _is_of_time(folder: str, selection: Selection) -> bool:
    if selection.since is None and selection.until is None:
        return True
    first = "" if selection.since is None else month_name(selection.since)
    last = "9999-12" if selection.until is None else month_name(selection.until)
    month = folder.partition("=")[2]
    return month != NO_MONTH and first <= month <= last


def _is_run(file: str, prefixes: tuple[str, ...]) -> bool:
    return file.endswith(SUFFIX) and not file.startswith((".", "_")) and file.startswith(prefixes)
