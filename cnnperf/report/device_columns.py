"""The columns of the table of CUDA beside the CPU, and the legend that explains them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cnnperf.records.metrics import Value
from cnnperf.report.cases import ratio_text
from cnnperf.runs.device_records import COPIES, DeviceRow, image_bytes, is_positive, value
from cnnperf.runs.devices import DIFFERENT_MACHINES, DIFFERENT_RUNS
from cnnperf.units import ABSENT, format_percent, format_quantity

MARK = "!"
NOT_COMPARABLE = "not comparable"

_TIMES_LEGEND = (
    "All numbers are measured; none is an expectation. wall: host seconds of one call, synchronized before and "
    "after; event: between CUDA events around one call; device: what the device needs for a call behind a full "
    "queue, without waiting for launches; kernel time (not shown) is that without gaps: kernel <= device <= event "
    "<= wall. queued: seconds a call of many calls in the queue, launches included. n: timed rounds."
)
_RATIO_LEGEND = (
    "busy: device over event (in older runs kernel time over event). CPU/CUDA: latency (wall) on the CPU over that "
    "on CUDA, of the same run, batch, image size, precision, layout and engine; above 1 CUDA is faster; of two "
    "medians measured one after the other, not paired; unsure: the interval includes 1. CPU/CUDA, pinned or "
    "pageable: with the images copied before each call, nothing overlapping; the half-widths of copy and latency "
    "are added in quadrature."
)
LEGEND = (
    _TIMES_LEGEND,
    _RATIO_LEGEND,
    f"{ABSENT}: not measured, or no case on the CPU to compare with. {MARK}: doubtful, see the notes.",
)


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        name: Header.
        cell: Text of a row.
    """

    name: str
    cell: Callable[[DeviceRow], str]


@dataclass(frozen=True)
class Layout:
    """One table of the section.

    Attributes:
        columns: All but the first, which names the row.
        caption: Words above it; empty for none.
        shown: Whether a row is part of it.
        doubts: What speaks against the numbers that it shows of a row.
    """

    columns: tuple[Column, ...]
    caption: str = ""
    shown: Callable[[DeviceRow], bool] = lambda _: True
    doubts: Callable[[DeviceRow], list[str]] = DeviceRow.doubts


def _time(name: str, *, interval: bool) -> Column:
    def cell(row: DeviceRow) -> str:
        if row.case.device_type == "cpu" and name != "wall":
            return ""
        measured = row.times().get(name)
        if measured is None:
            return ABSENT
        return with_doubt(measured) if interval else format_quantity(measured.value, "s")

    return Column(name, cell)


def _metric(name: str, metric: str, unit: str) -> Column:
    def cell(row: DeviceRow) -> str:
        measured = value(row.record, metric)
        text = format_quantity(measured.value, unit) if is_positive(measured) else ABSENT
        return text.removesuffix("images/s").rstrip()

    return Column(name, cell)


def _rounds(row: DeviceRow) -> str:
    rounds = value(row.record, "latency").rounds
    return ABSENT if rounds is None else str(rounds)


def _busy(row: DeviceRow) -> str:
    return "" if row.case.device_type == "cpu" else _metric("busy", "device_busy", "ratio").cell(row)


def _ratio(row: DeviceRow) -> str:
    if row.against_cpu is None:
        return ""
    if row.against_cpu.reason in (DIFFERENT_RUNS, DIFFERENT_MACHINES):
        return NOT_COMPARABLE
    return _marked(row, ratio_text(row.against_cpu.value))


def _copied_ratio(metric: str) -> Callable[[DeviceRow], str]:
    def cell(row: DeviceRow) -> str:
        found = None if row.against_cpu is None else row.against_cpu.with_copies.get(metric)
        return ABSENT if found is None else _marked(row, ratio_text(found))

    return cell


def _copy_share(metric: str) -> Callable[[DeviceRow], str]:
    def cell(row: DeviceRow) -> str:
        share = row.copy_shares().get(metric)
        if share is None or not is_positive(share):
            return ABSENT
        return f"{format_quantity(value(row.record, metric).value, 's')} ({format_percent(share.value)})"

    return cell


def has_copies(row: DeviceRow) -> bool:
    """Return whether copying the images was measured for a row."""
    return bool(row.copy_shares())


def has_several_batches(row: DeviceRow) -> bool:
    """Return whether the form of a row was measured at several batches, so that one of them is the best."""
    return row.best is not None and len(row.best.batches) > 1


def best_doubts(row: DeviceRow) -> list[str]:
    """Return the findings of the case at the best batch, which may be another case than the row's."""
    return [] if row.best is None else [f"{finding.kind}: {finding.seen}" for finding in row.best.record.findings]


def _best_batch(row: DeviceRow) -> str:
    return ABSENT if row.best is None else str(row.best.record.case.batch)


def _best_rate(row: DeviceRow) -> str:
    if row.best is None:
        return ABSENT
    return with_doubt(value(row.best.record, "throughput"), "images/s").replace(" images/s", "")


def _batches(row: DeviceRow) -> str:
    if row.best is None:
        return ABSENT
    first, last = row.best.batches[0], row.best.batches[-1]
    return f"{first} to {last}{', at the edge' if row.best.at_edge else ''}"


def with_doubt(measured: Value, unit: str = "s") -> str:
    """Write a value with the half-width of its interval: `1.23 ms ±2.1%`."""
    half = measured.half_width
    return format_quantity(measured.value, unit) + (
        f" ±{format_percent(half)}" if math.isfinite(half) and half >= 0 else ""
    )


def _marked(row: DeviceRow, text: str) -> str:
    return f"{text}{MARK}" if text != ABSENT and row.doubts() else text


_CALLS = (Column("batch", lambda row: str(row.case.batch)), Column("n", _rounds))
_RATE = _metric("images/s", "throughput", "images/s")
TIMES = (*_CALLS, *(_time(name, interval=name == "wall") for name in ("wall", "event", "device", "queued")), _RATE)
"""For a terminal, which has room for one interval."""
WIDE_TIMES = (*_CALLS, *(_time(name, interval=True) for name in ("wall", "event", "device", "queued")), _RATE)
STATE = (
    _metric("memory", "peak_memory", "B"),
    Column("busy", _busy),
    _metric("SM clock", "sm_clock", "Hz"),
    _metric("power", "power", "W"),
    _metric("energy", "energy", "J/image"),
    Column("CPU/CUDA", _ratio),
)
BEST = (
    Column("best batch", _best_batch),
    Column("images/s there", _best_rate),
    Column("batches measured", _batches),
)
_IMAGES = Column("images", lambda row: format_quantity(image_bytes(row.case), "B"))
COPIED = tuple(_metric(name.removeprefix("copy_"), name, "s") for name in COPIES)
_COPIED_RATIOS = tuple(Column(f"CPU/CUDA, {name.removeprefix('copy_')}", _copied_ratio(name)) for name in COPIES)
TRANSFERS = (_IMAGES, *COPIED, *_COPIED_RATIOS)
WIDE_TRANSFERS = (
    _IMAGES,
    *(Column(f"{name.removeprefix('copy_')} (of wall)", _copy_share(name)) for name in COPIES),
    *_COPIED_RATIOS,
)

_BEST_CAPTION = "Each at its own best batch"
_TRANSFERS_CAPTION = "Images copied to the device before each call"

BRIEF_TABLES = (
    Layout(
        (
            *(*_CALLS, _time("wall", interval=True), _time("device", interval=False), _RATE),
            *(column for column in STATE if column.name in {"energy", "CPU/CUDA"}),
        )
    ),
)
"""The table of a terminal for a run with many networks."""
TABLES = (
    Layout(TIMES),
    Layout(STATE),
    Layout(BEST, _BEST_CAPTION, has_several_batches, best_doubts),
    Layout(TRANSFERS, _TRANSFERS_CAPTION, has_copies),
)
"""The tables of a terminal."""
WIDE_TABLES = (
    Layout((*WIDE_TIMES, *STATE)),
    Layout(BEST, _BEST_CAPTION, has_several_batches, best_doubts),
    Layout(WIDE_TRANSFERS, _TRANSFERS_CAPTION, has_copies),
)
"""The tables of Markdown and HTML."""
