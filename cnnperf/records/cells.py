"""Conversion of the fusion benchmark's cells, found in files of schema 1, into cases.

A cell held all forms of a part of a network at one shape: the textbook formula and the fused one, each compiled or not.
As cases, the forms are architectures and engines of one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cnnperf.records.case import Case, Count
from cnnperf.records.faults import decoded
from cnnperf.records.metrics import Value

KEY = "cnnperf_fusion"
FUSED, COPY = "fused", "copy"
TEXTBOOK = ("eager", "compile")
NETWORKS = {"": "se_resnet18", "fused": "se_resnet18_fused", "plain": "resnet18"}
"""Form of the part `network` to its architecture."""

ENGINES = {
    (False, False): "eager",
    (True, False): "compile",
    (False, True): "replay",
    (True, True): "compile_replay",
}
"""Engine by whether a form is compiled, and whether its calls were replayed."""

_COMPILED = "-compile"


class Cell(msgspec.Struct, frozen=True):
    """Latencies and ratios of all forms of a part of a network at one shape.

    Attributes:
        part: `se`, `tail`, `block` or `network`.
        trains: Whether forward and backward were run; False for inference.
        shape: N, C, H, W.
        layout: `contiguous` or `channels_last`.
        precision: `fp32` or `bf16`.
        seconds: Median seconds of one call by form: on a GPU those of replays, else of synchronized calls.
        over_fused: Ratio of each other form to the fused one.
        rounds: Number of rounds of each form.
        device: `cpu` or `cuda:N`.
        host_seconds: Median seconds of one synchronized call by form, where `seconds` are those of replays.
        over_floor: Ratio of the fused form to the seconds of its least passes; None for a part without them.
        over_fused_compile: Ratio of the compiled textbook form to the fused one inside torch.compile, or None.
        over_plain: Ratio of each form with SE to the same part without SE, run in the same way.
        floor_passes: Fewest passes over a map that the part needs, or None.
        stopped: `interval` or `budget`: what ended the sampling.
    """

    part: str
    trains: bool
    shape: tuple[Count, Count, Count, Count]
    layout: str
    precision: str
    seconds: dict[str, Value]
    over_fused: dict[str, Value]
    rounds: Count
    device: str = "cpu"
    host_seconds: dict[str, Value] = {}
    over_floor: Value | None = None
    over_fused_compile: Value | None = None
    over_plain: dict[str, Value] = {}
    floor_passes: float | None = None
    stopped: str = ""

    def __post_init__(self) -> None:
        """Check that no textbook form, fused form or interval is missing.

        Raises:
            ValueError: If one is missing.
        """
        for name, forms in (("seconds", {*TEXTBOOK, FUSED}), ("over_fused", set(TEXTBOOK))):
            missing = sorted(forms - getattr(self, name).keys())
            if missing:
                raise ValueError(f"{missing[0]!r} is missing in {name}")
        if self.part == "network" and (unknown := [form for form in self.seconds if _plain(form) not in NETWORKS]):
            raise ValueError(f"{unknown[0]!r} is no form of the network")
        floor = () if self.over_floor is None else (self.over_floor,)
        for value in (*self.seconds.values(), *floor, *(value for *_, value in self.ratios())):
            if value.low is None or value.high is None:
                raise ValueError(f"{'low' if value.low is None else 'high'!r} is missing in an interval")

    def case(self, form: str, *, replayed: bool) -> Case:
        """Return the case of a form."""
        batch, channels, height, _ = self.shape
        compiled = form.endswith(_COMPILED) or form == "compile"
        sizes = {"batch": batch, "image_size": height} | ({} if self.part == "network" else {"width": channels})
        return Case(
            architecture=_architecture(self.part, _plain(form)),
            phase="train" if self.trains else "forward",
            device=self.device,
            engine=ENGINES[compiled, replayed],
            precision=self.precision,
            layout=self.layout,
            **sizes,
        )

    def ratios(self) -> Iterator[tuple[str, str, Value]]:
        """Yield numerator, denominator and value of each ratio."""
        for form, ratio in self.over_fused.items():
            yield form, FUSED, ratio
        if self.over_floor is not None and self.floor_passes and COPY in self.seconds:
            yield FUSED, COPY, self.over_floor.scaled(self.floor_passes / 2)
        if self.over_fused_compile is not None:
            yield "compile", f"{FUSED}{_COMPILED}", self.over_fused_compile
        for form, ratio in self.over_plain.items():
            yield form, "plain-compile" if form.endswith("compile") else "plain", ratio


def cells_to_cases(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of schema 1 with each cell replaced by the cases of its forms.

    Raises:
        RunFileError: If a cell is damaged.
    """
    old = document.get("benchmarks")
    if not isinstance(old, list):  # `decoded` reports it
        return dict(document)
    benchmarks = []
    for number, benchmark in enumerate(old):
        extra = benchmark.get("extra_info") if isinstance(benchmark, Mapping) else None
        if not isinstance(extra, Mapping) or KEY not in extra:
            benchmarks.append(benchmark)
            continue
        cell = decoded(extra[KEY], Cell, f"$.benchmarks[{number}].extra_info.{KEY}")
        benchmarks += _cases_of(cell, benchmark)
    return {**document, "benchmarks": benchmarks}


def _cases_of(cell: Cell, benchmark: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    name = str(benchmark.get("name") or cell.part)
    replayed = bool(cell.host_seconds)
    for form, seconds in cell.seconds.items():
        case = cell.case(form, replayed=replayed)
        ratios = [
            {
                "axes": case.difference(cell.case(below, replayed=replayed)),
                "ratio": msgspec.to_builtins(ratio),
            }
            for above, below, ratio in cell.ratios()
            if above == form
        ]
        yield _benchmark(name, case, seconds, cell, ratios)
    for form, seconds in cell.host_seconds.items():
        yield _benchmark(f"{name}-host", cell.case(form, replayed=False), seconds, cell, [])


def _benchmark(
    block: str, case: Case, seconds: Value, cell: Cell, ratios: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    latency = msgspec.structs.replace(seconds, rounds=cell.rounds, unit="s")
    info = {
        "cnnperf": 1,
        "axes": case.axes(),
        "metrics": {"latency": msgspec.to_builtins(latency)},
        "block": block,
        "ratios": ratios,
        "stopped": cell.stopped,
    }
    return {"name": case.id(), "fullname": f"{block}::{case.id()}", "extra_info": info, "stats": {}}


def _plain(form: str) -> str:
    """Return a form without its compilation; the textbook formula, `eager` or `compile`, is empty."""
    return "" if form in TEXTBOOK else form.removesuffix(_COMPILED)


def _architecture(part: str, plain: str) -> str:
    if part == "network":
        return NETWORKS[plain]
    if plain == FUSED:
        return f"fused:part:{part}"
    return f"part:{part}_{plain}" if plain else f"part:{part}"
