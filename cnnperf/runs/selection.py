"""Which rows of the tidy frame are wanted: those with some values, and those of some time."""

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
        where: Values that are wanted, by column; any value of the others is.
        since: Earliest time, or None.
        until: The time before which, or None. A run without a time is of none that is asked for.
    """

    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def means(self, run: Run) -> bool:
        """Tell whether a run is of a machine and of a time that are wanted."""
        machines, time = self.where.get("machine"), run.time
        if time is None:
            timely = self.since is None and self.until is None
        else:
            timely = (self.since is None or time >= self.since) and (self.until is None or time < self.until)
        return timely and (machines is None or run.machine in machines)

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a frame that are wanted."""
        if self == Selection():
            return frame
        import pandas as pd

        wanted = pd.Series(data=True, index=frame.index)
        for name, values in self.where.items():
            wanted &= frame[name].isin(values).astype(bool)
        if self.since is not None:
            wanted &= frame["time"] >= self.since
        if self.until is not None:
            wanted &= frame["time"] < self.until
        found = frame[wanted].reset_index(drop=True)
        texts = [name for name in found.columns if TYPES.get(name) == "category"]
        return found.assign(**{name: found[name].cat.remove_unused_categories() for name in texts})


def parse_selection(where: Where | None = None, since: Time | None = None, until: Time | None = None) -> Selection:
    """Return the selection that is meant.

    Args:
        where: A value or several, by column.
        since: Earliest time, such as `2026-01-31` or a datetime; in UTC where it names no zone.
        until: The time before which.

    Raises:
        OptionError: If a column, the type of a value, or a time cannot be used.
    """
    wanted = {name: _values(name, given) for name, given in (where or {}).items()}
    return Selection(wanted, _time(since, "since"), _time(until, "until"))


def parse_machine(machine: str | None, since: Time | None, until: Time | None) -> Selection:
    """Return the selection of runs of one machine, or of all, and of a time; raises as `parse_selection` does."""
    return parse_selection(None if machine is None else {"machine": machine}, since, until)


def none_selected(pattern: str, metric: str, machine: str) -> RunFileError:
    """Return the error of a history that a selection leaves without a run, with a machine that there is."""
    return RunFileError(
        f"no run of the wanted machine and time has {metric} of {pattern}; a machine is named as {machine!r} is"
    )


def _values(name: str, given: Value | Iterable[Value]) -> tuple[Value, ...]:
    if name not in SELECTABLE:
        raise OptionError(f"where: runs cannot be selected by {name!r}; they can by {', '.join(SELECTABLE)}")
    whole = name in AXIS_BY_NAME and AXIS_BY_NAME[name].type is int
    if not isinstance(given, str | Integral | Iterable):
        raise OptionError(f"where: {name} takes a value or several, not {given!r}")
    several = (given,) if isinstance(given, str | Integral) else tuple(given)
    for value in several:
        if not isinstance(value, Integral if whole else str):
            raise OptionError(f"where: {name} takes {'whole numbers' if whole else 'texts'}, not {value!r}")
        if not _is_plain(value):
            raise OptionError(f"where: {name} cannot be {value!r}, which no run has")
    return tuple(int(value) if whole else str(value) for value in several)


def _is_plain(value: object) -> bool:
    """Tell whether a value can stand in a file: a number of 64 bits, or a text in UTF-8."""
    if isinstance(value, str):
        return value.isascii() or value.encode(errors="replace") == value.encode(errors="surrogatepass")
    return -(2**63) <= int(value) < 2**63  # type: ignore[call-overload,no-any-return]  # a whole number


def _time(given: Time | None, name: str) -> datetime | None:
    if given is None:
        return None
    import pandas as pd

    refusal = OptionError(f"{name}: a time such as 2026-01-31 or 2026-01-31T12:00 is needed, not {given!r}")
    try:
        time = pd.to_datetime(given if isinstance(given, date) else str(given), utc=True)
    except (ValueError, OverflowError) as error:
        raise refusal from error
    if pd.isna(time):
        raise refusal
    return time.to_pydatetime()
