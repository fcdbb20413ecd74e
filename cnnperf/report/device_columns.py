"""The columns of the table of CUDA beside the CPU, and the legend that explains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cnnperf.report.cases import quantity_text, rate_text, ratio_text, unpaired_text
from cnnperf.runs.device_records import COPIES, DeviceRow, finding_text, image_bytes, is_positive
from cnnperf.runs.devices import NOT_COMPARABLE
from cnnperf.runs.ratios import value_of
from cnnperf.units import ABSENT, format_percent, format_quantity

MARK = "!"

_TIMES_LEGEND = (
    "All numbers are measured; none is an expectation. wall: host seconds of one call, synchronized before and "
    "after; event: between CUDA events around one call; device: what the device needs for a call behind a full "
    "queue, without waiting for launches; kernel time (not shown) is that without gaps: kernel <= device <= event "
    "<= wall. queued: seconds a call of many calls in the queue, launches included. n: timed rounds."
)
_RATIO_LEGEND = (
    "busy: device over event (in older runs kernel time over event). CPU/CUDA: latency (wall) on the CPU over that "
    "on CUDA, of the same run, batch, image size, precision, layout and engine; above 1 CUDA is faster. "
    "CPU/CUDA, pinned or pageable: with the images copied before each call, nothing overlapping; the half-widths of "
    "copy and latency are added in quadrature."
)
LEGEND = (
    _TIMES_LEGEND,
    _RATIO_LEGEND,
    f"{ABSENT}: not measured, or no case on the CPU to compare with. {MARK}: doubtful, see the notes.",
)

Cell = Callable[[DeviceRow], str]
"""Text of a row in one column."""


@dataclass(frozen=True)
class Layout:
    """One table of the section.

    Attributes:
        columns: Columns by header, but the first, which names the row.
        caption: Text above the table; empty for none.
        shown: Returns whether a row belongs to the table.
        doubts: Returns the reasons to distrust the numbers that the table shows of a row.
    """

    columns: dict[str, Cell]
    caption: str = ""
    shown: Callable[[DeviceRow], bool] = lambda _: True
    doubts: Callable[[DeviceRow], list[str]] = DeviceRow.doubts


def _time(name: str, *, interval: bool = True) -> Cell:
    def cell(row: DeviceRow) -> str:
        if row.case.device_type == "cpu" and name != "wall":
            return ""
        measured = row.times().get(name)
        if measured is None:
            return ABSENT
        return quantity_text(measured, "s") if interval else format_quantity(measured.value, "s")

    return cell


def _metric(metric: str, unit: str) -> Cell:
    def cell(row: DeviceRow) -> str:
        measured = value_of(row.record, metric)
        if not is_positive(measured):
            return ABSENT
        return rate_text(measured.value) if unit == "images/s" else format_quantity(measured.value, unit)

    return cell


def _rounds(row: DeviceRow) -> str:
    rounds = value_of(row.record, "latency").rounds
    return ABSENT if rounds is None else str(rounds)


def _busy(row: DeviceRow) -> str:
    return "" if row.case.device_type == "cpu" else _metric("device_busy", "ratio")(row)


def _ratio(row: DeviceRow) -> str:
    if row.against_cpu is None:
        return ""
    if row.against_cpu.reason in NOT_COMPARABLE:
        return "not comparable"
    return _marked(row, ratio_text(row.against_cpu.ratio))


def _copied_ratio(metric: str) -> Cell:
    def cell(row: DeviceRow) -> str:
        quotient = None if row.against_cpu is None else row.against_cpu.with_copies.get(metric)
        return ABSENT if quotient is None else _marked(row, unpaired_text(quotient))

    return cell


def _copy_share(metric: str) -> Cell:
    def cell(row: DeviceRow) -> str:
        share = row.copy_shares().get(metric)
        if share is None or not is_positive(share):
            return ABSENT
        return f"{format_quantity(value_of(row.record, metric).value, 's')} ({format_percent(share.value)})"

    return cell


def _best_batch(row: DeviceRow) -> str:
    return ABSENT if row.best is None else str(row.best.record.case.batch)


def _best_rate(row: DeviceRow) -> str:
    return ABSENT if row.best is None else quantity_text(value_of(row.best.record, "throughput"), "images/s")


def _batches(row: DeviceRow) -> str:
    if row.best is None:
        return ABSENT
    first, last = row.best.batches[0], row.best.batches[-1]
    return f"{first} to {last}{', at the edge' if row.best.at_edge else ''}"


def _marked(row: DeviceRow, text: str) -> str:
    return text + (MARK if row.doubts() and text != ABSENT else "")


def _has_copies(row: DeviceRow) -> bool:
    return bool(row.copy_shares())


def _has_several_batches(row: DeviceRow) -> bool:
    return row.best is not None and len(row.best.batches) > 1


def _best_doubts(row: DeviceRow) -> list[str]:
    """Return the findings of the case at the best batch, which may be another case than that of the row."""
    return [] if row.best is None else [finding_text(finding) for finding in row.best.record.findings]


_CALLS: dict[str, Cell] = {"batch": lambda row: str(row.case.batch), "n": _rounds}
_RATE = {"images/s": _metric("throughput", "images/s")}
_WALL = {"wall": _time("wall")}
_OTHER_TIMES = ("event", "device", "queued")
TIMES = _CALLS | _WALL | {name: _time(name, interval=False) for name in _OTHER_TIMES} | _RATE
"""Columns for a terminal, which has space for one interval."""
STATE = {
    "memory": _metric("peak_memory", "B"),
    "busy": _busy,
    "SM clock": _metric("sm_clock", "Hz"),
    "power": _metric("power", "W"),
    "energy": _metric("energy", "J/image"),
}
_RATIO: dict[str, Cell] = {"CPU/CUDA": _ratio}
COPIED = {name.removeprefix("copy_"): _metric(name, "s") for name in COPIES}
_IMAGES: dict[str, Cell] = {"images": lambda row: format_quantity(image_bytes(row.case), "B")}
_COPY_SHARES = {f"{name.removeprefix('copy_')} (of wall)": _copy_share(name) for name in COPIES}
_COPIED_RATIOS = {f"CPU/CUDA, {name.removeprefix('copy_')}": _copied_ratio(name) for name in COPIES}

_BEST = Layout(
    {"best batch": _best_batch, "images/s there": _best_rate, "batches measured": _batches},
    "Each at its own best batch",
    _has_several_batches,
    _best_doubts,
)


def _transfers(copies: dict[str, Cell]) -> Layout:
    caption = "Images copied to the device before each call"
    return Layout(_IMAGES | copies | _COPIED_RATIOS, caption, _has_copies)


BRIEF_TABLES = (
    Layout(_CALLS | _WALL | {"device": _time("device", interval=False)} | _RATE | {"energy": STATE["energy"]} | _RATIO),
)
"""The table of a terminal for a run with many networks."""
TABLES = (Layout(TIMES), Layout(STATE | _RATIO), _BEST, _transfers(COPIED))
"""The tables of a terminal."""
WIDE_TABLES = (
    Layout(_CALLS | _WALL | {name: _time(name) for name in _OTHER_TIMES} | _RATE | STATE | _RATIO),
    _BEST,
    _transfers(_COPY_SHARES),
)
"""The tables of Markdown and HTML."""
