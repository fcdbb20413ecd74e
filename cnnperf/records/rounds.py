"""The rounds of a case: the seconds of every timed call, decoded on first use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

from cnnperf.errors import RunFileError
from cnnperf.records.faults import RunPart, decoded

Groups = tuple[tuple[float, ...], ...]


class Rounds:
    """Seconds of the timed calls of a case in groups, each group at a fresh memory placement."""

    def __init__(self, groups: Iterable[Sequence[float]] = ()) -> None:
        """Create rounds from values in memory; `saved` creates them from a run file."""
        self.groups = tuple(tuple(group) for group in groups)

    @classmethod
    def saved(cls, data: RunPart, sizes: Sequence[int], where: str) -> Rounds:
        """Create rounds from a run file.

        Args:
            data: List of the seconds of all rounds, decoded or not.
            sizes: Number of rounds of each group; if empty, all rounds are one group.
            where: Path of `data` in the file, for errors.
        """
        rounds = cls.__new__(cls)
        rounds._saved = (data, sizes, where)  # noqa: SLF001 - of the class itself
        return rounds

    _saved: tuple[RunPart, Sequence[int], str]

    @cached_property
    def groups(self) -> Groups:
        """Seconds of the rounds, one tuple a group.

        Raises:
            RunFileError: If the saved rounds are damaged.
        """
        data, sizes, where = self._saved
        seconds = decoded(data, tuple[float, ...], where)
        sizes = sizes or ([len(seconds)] if seconds else [])
        if seconds and sum(sizes) != len(seconds):
            raise RunFileError(f"{where}: the groups have {sum(sizes)} rounds, the data {len(seconds)}; one is damaged")
        ends = accumulate(sizes) if seconds else ()
        return tuple(seconds[end - size : end] for size, end in zip(sizes, ends, strict=False))

    def __eq__(self, other: object) -> bool:
        """Compare the seconds of all groups."""
        return isinstance(other, Rounds) and self.groups == other.groups

    def __hash__(self) -> int:
        """Return the hash of the seconds of all groups."""
        return hash(self.groups)

    def __repr__(self) -> str:
        """Return the groups as Python code."""
        return f"Rounds({self.groups!r})"


NO_ROUNDS = Rounds()
