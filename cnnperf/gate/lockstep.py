"""Sides in lockstep: one case on all sides, cycle by cycle, at fresh memory placements.

A re-instantiation is one draw of the placement: every side puts its tensors at fresh addresses and is then timed in
turns of a few rounds, in an order drawn anew for each cycle. Disturbances of the machine thus affect all sides alike.
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
TRIAL_ROUNDS = 3  # rounds that estimate the duration of a round
MOST_ROUNDS = 100
CYCLES = 5
COLD_SECONDS = 0.005  # turns of shorter rounds begin with an untimed one: the caches hold another process's data

ESTIMATORS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "minimum": min,
    "lower quartile": lambda seconds: float(np.quantile(seconds, 0.25)),
    "median": lambda seconds: float(np.quantile(seconds, 0.5)),
}
"""Estimators of the seconds of a round of one side at one placement."""

ESTIMATOR = "minimum"
"""Disturbances only lengthen a round, and the least disturbed one varies least from placement to placement."""


@dataclass(frozen=True)
class Turn:
    """Length of a turn.

    Attributes:
        rounds: Number of timed rounds.
        warm: Number of untimed rounds before them.
    """

    rounds: int
    warm: int

    @classmethod
    def of(cls, seconds: float) -> Turn:
        """Return the turn for rounds that take `seconds` each."""
        rounds = min(MOST_ROUNDS, max(1, math.ceil(TURN_SECONDS / max(seconds, 1e-9))))
        return cls(rounds, int(seconds < COLD_SECONDS))


@dataclass(frozen=True)
class Placement:
    """Wall and CPU seconds of the rounds of one re-instantiation, by side."""

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]

    def log_ratio(self, numerator: str, denominator: str, estimator: str = ESTIMATOR, *, cpu: bool = False) -> float:
        """Return the log of one side's wall or CPU time over another's, by one of `ESTIMATORS`.

        Raises:
            CnnperfError: If either time is not above 0.
        """
        seconds, estimate = self.cpu if cpu else self.wall, ESTIMATORS[estimator]
        above, below = estimate(seconds[numerator]), estimate(seconds[denominator])
        if not (above > 0 and below > 0):
            raise CnnperfError(
                f"a round takes a time above 0, not {above:g} s ({numerator}) and {below:g} s ({denominator})"
            )
        return math.log(above / below)


@dataclass
class Lockstep:
    """Measurement of one case on several sides in turns.

    Attributes:
        peers: Worker of each side by name.
        seed: Seed of orders and placements; it increases with every use.
    """

    peers: Mapping[str, Peer]
    seed: int = 0
    _turn: Turn = field(init=False, default=Turn(1, 0))

    def build(self, axes: Mapping[str, object], **settings: object) -> None:
        """Build the case on all sides concurrently: most of it is loading and compiling.

        Each side has its own seed. With a common one all would pad their memory alike, pass after pass, and the
        placements would not be independent draws.

        Args:
            axes: Axes of the case.
            settings: Further arguments of `worker.Worker.build`.

        Raises:
            CannotMeasure: If a side cannot build the case; the message names the side.
        """

        def build(index: int, name: str) -> None:
            seed = self.seed + index
            try:
                self.peers[name].ask("build", axes=dict(axes), seed=seed, **settings)
            except CannotMeasure as error:
                raise CannotMeasure(error.kind, f"{name}: {error}") from error

        names = list(self.peers)
        with ThreadPoolExecutor(len(names)) as executor:
            list(executor.map(build, range(len(names)), names))
        self.seed += len(names)
        trial = self.peers[names[0]].ask("time", rounds=TRIAL_ROUNDS, warm=1)
        self._turn = Turn.of(min(trial["wall"]))

    def placements(self, count: int) -> Iterator[Placement]:
        """Measure and yield `count` re-instantiations."""
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
