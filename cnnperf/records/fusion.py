"""The records of the fusion benchmark: all forms of a part of a network at one shape, measured side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnperf.records.fields import Object, as_count, as_list, as_number, as_object, as_text, need, part
from cnnperf.records.metrics import Value

KEY = "cnnperf_fusion"
FUSED = "fused"
TEXTBOOK = ("eager", "compile")
"""The forms that every record has beside the fused one."""


@dataclass(frozen=True)
class FusionRecord:
    """Hold one cell of the fusion benchmark.

    Attributes:
        part: `se`, `tail`, `block` or `network`.
        trains: Whether forward and backward were run, or inference.
        shape: N, C, H, W.
        layout: `contiguous` or `channels_last`.
        precision: `fp32` or `bf16`.
        device: `cpu` or `cuda:N`.
        seconds: Median by form, of one call: on a GPU those of the device, else of the host.
        host_seconds: Wall seconds of one synchronized call by form, where `seconds` are the device's; else empty.
        floor_seconds: Of the least passes at the speed of a copy; None without such a floor.
        over_fused: Ratio of each other form to the fused one.
        not_captured: Form that has no time on the device to why not.
        over_floor: The fused form over its least passes at the speed of a copy; None for a part without such a floor.
        over_fused_compile: Ratio of the compiled textbook form to the fused one within torch.compile; None where that
            was not measured.
        over_plain: Ratio of each form with SE to the same part without, run in the same way; empty where there is none.
        rounds: Of each form.
    """

    part: str
    trains: bool
    shape: tuple[int, ...]
    layout: str
    precision: str
    device: str
    seconds: Mapping[str, Value]
    host_seconds: Mapping[str, Value]
    floor_seconds: Value | None
    not_captured: Mapping[str, str]
    over_fused: Mapping[str, Value]
    over_floor: Value | None
    over_fused_compile: Value | None
    over_plain: Mapping[str, Value]
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
    missing = as_object(found.get("not_captured", {}), f"{where}.not_captured")
    textbook = tuple(form for form in TEXTBOOK if form not in missing)
    return FusionRecord(
        **texts,
        trains=bool(need(found, "trains", where)),
        shape=tuple(as_count(size, f"{where}.shape") for size in shape),
        device=as_text(found.get("device", "cpu"), f"{where}.device"),  # older records are all of the CPU
        seconds=_values(found, "seconds", (*textbook, FUSED), where),
        host_seconds=_values(found, "host_seconds", (), where) if "host_seconds" in found else {},
        floor_seconds=_optional(found, "floor_seconds", where),
        not_captured={form: as_text(one, f"{where}.not_captured.{form}") for form, one in missing.items()},
        over_fused=_values(found, "over_fused", textbook, where),
        over_floor=_optional(found, "over_floor", where),
        over_fused_compile=_optional(found, "over_fused_compile", where),
        over_plain=_values(found, "over_plain", (), where) if "over_plain" in found else {},
        rounds=as_count(need(found, "rounds", where), f"{where}.rounds"),
    )


def _values(found: Object, key: str, needed: Sequence[str], where: str) -> dict[str, Value]:
    container = as_object(need(found, key, where), f"{where}.{key}")
    for name in needed:
        need(container, name, f"{where}.{key}")
    return {name: _value(entry, f"{where}.{key}.{name}") for name, entry in container.items()}


def _optional(container: Object, key: str, where: str) -> Value | None:
    given = container.get(key)  # older records lack some
    return None if given is None else _value(given, f"{where}.{key}")


def _value(given: object, where: str) -> Value:
    entry = as_object(given, where)
    low, value, high = (as_number(need(entry, end, where), f"{where}.{end}") for end in ("low", "value", "high"))
    return Value(value, low, high)
