"""The records of the fusion benchmark: all forms of a part of a network at one shape, measured side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnperf.measure.metrics import Value
from cnnperf.runs.fields import Object, as_count, as_list, as_number, as_object, as_text, need, part

KEY = "cnnperf_fusion"
FORMS = ("eager", "compile", "fused")


@dataclass(frozen=True)
class FusionRecord:
    """Hold one cell of the fusion benchmark.

    Attributes:
        part: `se` or `tail`.
        trains: Whether forward and backward were run, or inference.
        shape: N, C, H, W.
        layout: `contiguous` or `channels_last`.
        precision: `fp32` or `bf16`.
        seconds: Median by form.
        over_fused: Ratio of each other form to the fused one.
        over_floor: The fused form over its least passes at the speed of a copy.
        rounds: Of each form.
    """

    part: str
    trains: bool
    shape: tuple[int, ...]
    layout: str
    precision: str
    seconds: Mapping[str, Value]
    over_fused: Mapping[str, Value]
    over_floor: Value
    rounds: int


def fusion_records(benchmarks: Sequence[object]) -> Iterator[FusionRecord]:
    """Yield the records among the benchmarks of a run file.

    Raises:
        RunFileError: If one is damaged.
    """
    for index, entry in enumerate(benchmarks):
        where = f"benchmarks[{index}]"
        extra = part(as_object(entry, where), "extra_info", f"{where}.extra_info")
        if KEY in extra:
            yield _record(as_object(extra[KEY], f"{where}.extra_info.{KEY}"), f"{where}.extra_info.{KEY}")


def _record(found: Object, where: str) -> FusionRecord:
    shape = as_list(need(found, "shape", where), f"{where}.shape")
    texts = {key: as_text(need(found, key, where), f"{where}.{key}") for key in ("part", "layout", "precision")}
    return FusionRecord(
        **texts,
        trains=bool(need(found, "trains", where)),
        shape=tuple(as_count(size, f"{where}.shape") for size in shape),
        seconds=_values(found, "seconds", FORMS, where),
        over_fused=_values(found, "over_fused", FORMS[:-1], where),
        over_floor=_value(found, "over_floor", where),
        rounds=as_count(need(found, "rounds", where), f"{where}.rounds"),
    )


def _values(found: Object, key: str, names: Sequence[str], where: str) -> dict[str, Value]:
    container = as_object(need(found, key, where), f"{where}.{key}")
    return {name: _value(container, name, f"{where}.{key}") for name in names}


def _value(container: Object, key: str, where: str) -> Value:
    entry = as_object(need(container, key, where), f"{where}.{key}")
    low, value, high = (as_number(need(entry, end, where), f"{where}.{key}.{end}") for end in ("low", "value", "high"))
    return Value(value, low, high)
