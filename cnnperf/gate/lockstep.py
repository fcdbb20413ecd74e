"""Sides in lockstep: one case on all of them, cycle by cycle, at fresh memory placements.

A re-instantiation is one draw of the placement: every side puts its tensors at fresh addresses and is then timed in
turns of a few rounds, in an order drawn anew for each cycle. What the machine does meanwhile, it does to all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from cnnperf.errors import CnnperfError
from cnnperf.gate.processes import CannotMeasure, Peer
from cnnperf.measure.paired import draw_order

TURN_SECONDS = 0.01
TRIAL_ROUNDS = 3  # that tell how long a round is
MOST_ROUNDS = 100
CYCLES = 5
COLD_SECONDS = 0.005  # below it the rounds of a turn begin with one that does not count: another process had the caches

ESTIMATORS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "minimum": min,
    "lower quartile": lambda seconds: float(np.quantile(seconds, 0.25)),
    "median": lambda seconds: float(np.quantile(seconds, 0.5)),
}
"""What can stand for the rounds of one side at one placement."""

ESTIMATOR = "minimum"
"""What disturbs a round makes it longer, and the least disturbed one varies least from placement to placement."""


@dataclass(frozen=True)
class Turn:
    """Length of a turn.

    Attributes:
        rounds: That are timed.
        warm: That come before them and do not count.
    """

    rounds: int
    warm: int

    @classmethod
    def of(cls, seconds: float) -> Turn:
        """Return the turn for rounds of so many seconds."""
        rounds = min(MOST_ROUNDS, max(1, math.ceil(TURN_SECONDS / max(seconds, 1e-9))))
        return cls(rounds, int(seconds < COLD_SECONDS))


@dataclass(frozen=True)
class Placement:
    """Wall and CPU seconds of the rounds of one re-instantiation, by side."""

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]

    def log_ratio(self, numerator: str, denominator: str, estimator: str = ESTIMATOR, *, cpu: bool = False) -> float:
        """Return the log of one side's time over another's.

        Raises:
            CnnperfError: If either is not above 0.
        """
        seconds, of = self.cpu if cpu else self.wall, ESTIMATORS[estimator]
        above, below = of(seconds[numerator]), of(seconds[denominator])
        if not (above > 0 and below > 0):
            raise CnnperfError(
                f"a round takes a time above 0, not {above:g} s ({numerator}) and {below:g} s ({denominator})"
            )
        return math.log(above / below)


@dataclass
class Lockstep:
    """Time one case on several sides.

    Attributes:
        peers: The worker of each side by name.
        seed: Of orders and placements; it moves on with every use.
    """

    peers: Mapping[str, Peer]
    seed: int = 0
    _turn: Turn = field(init=False, default=Turn(1, 0))

    def build(self, axes: Mapping[str, object], input_kind: str, allocator: str) -> None:
        """Build the case on every side, on all at once, because most of it is loading and compiling.

        Each side has a seed of its own. With a common one all would pad their memory alike, pass after pass, and the
        placements would not be independent draws.

        Raises:
            CannotMeasure: If a side cannot; the message names it.
        """

        def build(index: int, name: str) -> None:
            seed = self.seed + index
            try:
                self.peers[name].ask("build", axes=dict(axes), input_kind=input_kind, seed=seed, allocator=allocator)
            except CannotMeasure as error:
                raise CannotMeasure(error.kind, f"{name}: {error}") from error

        names = list(self.peers)
        with ThreadPoolExecutor(len(names)) as together:
            list(together.map(build, range(len(names)), names))
        self.seed += len(names)
        alone = self.peers[names[0]].ask("time", rounds=TRIAL_ROUNDS, warm=1)
        self._turn = Turn.of(min(alone["wall"]))

    def placements(self, count: int) -> Iterator[Placement]:
        """Yield so many re-instantiations."""
        for _ in range(count):
            self.seed += 1
            yield self._placement()

    def _placement(self) -> Placement:
        names = list(self.peers)
        for name in names:
            self.peers[name].ask("place")
        wall: dict[str, list[float]] = {name: [] for name in names}
        cpu: dict[str, list[float]] = {name: [] for name in names}
        for name in draw_order(names, CYCLES, self.seed):
            answer = self.peers[name].ask("time", rounds=self._turn.rounds, warm=self._turn.warm)
            wall[name] += answer["wall"]
            cpu[name] += answer["cpu"]
        return Placement(wall, cpu)
