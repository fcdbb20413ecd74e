"""Selection of rows of the tidy frame by values and by time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from numbers import Integral
from typing import TYPE_CHECKING

from cnnperf.errors import OptionError, RunFileError
from cnnperf.records.case import AXIS_BY_NAME
from cnnperf.records.run import Run
from cnnperf.runs.columns import AXIS_NAMES, TYPES

if TYPE_CHECKING:
    import pandas as pd

SELECTABLE = ("run", "commit", "machine", "test", *AXIS_NAMES, "metric", "unit")

Value = str | int
Where = Mapping[str, Value | Iterable[Value]]
Time = str | date


@dataclass(frozen=True)
class Selection:
    """Selection of rows.

    Attributes:
        where: Selected values by column; of other columns every value is selected.
        since: Earliest time, or None.
        until: End of the period, excluded, or None. A run without a time belongs to no period.
    """

    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def means(self, run: Run) -> bool:
        """Return whether the machine and the time of a run are selected."""
        if run.time is None and (self.since is not None or self.until is not None):
            return False
        early = run.time is not None and self.since is not None and run.time < self.since
        late = run.time is not None and self.until is not None and run.time >= self.until
        machines = self.where.get("machine")
        return not early and not late and (machines is None or run.machine in machines)

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the selected rows of a frame."""
        if self == Selection():
            return frame
        import pandas as pd

        chosen = pd.Series(data=True, index=frame.index)
        for name, values in self.where.items():
            chosen &= frame[name].isin(values).astype(bool)
        if self.since is not None:
            chosen &= frame["time"] >= self.since
        if self.until is not None:
            chosen &= frame["time"] < self.until
        rows = frame[chosen].reset_index(drop=True)
        texts = [name for name in rows.columns if TYPES.get(name) == "category"]
        return rows.assign(**{name: rows[name].cat.remove_unused_categories() for name in texts})


def parse_selection(where: Where | None = None, since: Time | None = None, until: Time | None = None) -> Selection:
    """Return a selection.

    Args:
        where: A value or several by column.
        since: Earliest time, such as `2026-01-31` or a datetime; in UTC without a time zone.
        until: End of the period, excluded.

    Raises:
        OptionError: If a column, the type of a value, or a time is not valid.
    """
    values = {name: _values(name, value) for name, value in (where or {}).items()}
    return Selection(values, _time(since, "since"), _time(until, "until"))


def parse_machine(machine: str | None, since: Time | None, until: Time | None) -> Selection:
    """Return the selection of one machine or all, and of a period; the errors are those of `parse_selection`."""
    return parse_selection(None if machine is None else {"machine": machine}, since, until)


def none_selected(pattern: str, metric: str, machine: str) -> RunFileError:
    """Return the error of a history without a selected run, which names a machine that there is."""
    return RunFileError(
        f"no run of the selected machine and period has {metric} of {pattern}; machines are named like {machine!r}"
    )


def _values(name: str, value: Value | Iterable[Value]) -> tuple[Value, ...]:
    if name not in SELECTABLE:
        raise OptionError(f"where: runs cannot be selected by {name!r}; they can by {', '.join(SELECTABLE)}")
    whole = name in AXIS_BY_NAME and AXIS_BY_NAME[name].type is int
    if not isinstance(value, str | Integral | Iterable):
        raise OptionError(f"where: {name} takes a value or several, not {value!r}")
    values = (value,) if isinstance(value, str | Integral) else tuple(value)
    for item in values:
        if not isinstance(item, Integral if whole else str):
            raise OptionError(f"where: {name} takes {'whole numbers' if whole else 'texts'}, not {item!r}")
        if not _is_plain(item):
            raise OptionError(f"where: {name} cannot be {item!r}, which no run has")
    return tuple(int(item) if whole else str(item) for item in values)


def _is_plain(value: object) -> bool:
    """Return whether a file can hold a value: a number of 64 bits, or a text in UTF-8."""
    if isinstance(value, str):
        return value.isascii() or value.encode(errors="replace") == value.encode(errors="surrogatepass")
    return -(2**63) <= int(value) < 2**63  # type: ignore[call-overload,no-any-return]  # a whole number


def _time(text: Time | None, name: str) -> datetime | None:
    if text is None:
        return None
    import pandas as pd

    refusal = OptionError(f"{name}: a time such as 2026-01-31 or 2026-01-31T12:00 is needed, not {text!r}")
    try:
        time = pd.to_datetime(text if isinstance(text, date) else str(text), utc=True)
    except (ValueError, OverflowError) as error:
        raise refusal from error
    if pd.isna(time):
        raise refusal
    return time.to_pydatetime()
