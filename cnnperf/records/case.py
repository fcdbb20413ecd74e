"""The axes and the case, as plain data.

A case is one point of the axes. Its axes identify it, never the name of the test that measured it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from cnnperf.errors import OptionError
from cnnperf.records.engines import ENGINES

AxisValue = str | int
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A whole number that a column of a frame can hold."""

PHASES = ("forward", "backward", "train")
PRECISIONS = ("fp32", "conv_tf32", "tf32", "bf16", "fp16", "amp", "amp_fp16")
LAYOUTS = ("contiguous", "channels_last")


@dataclass(frozen=True)
class Axis:
    """One axis of the measured space, declared by a field of `Case`.

    Attributes:
        meaning: Phrase for help texts.
        allowed: Valid values; empty if every value of the type is valid.
        in_every_id: Whether every pytest id contains the axis. An id contains a later axis only if it differs from its
            default, so that the names of existing tests stay the same.
        overridable: Whether `--cnnperf-axis` can replace its values. Others have an option of their own.
        name: Field, JSON key, column and option; taken from `Case`.
        type: `str` or `int`; taken from `Case`.
        default: Value of runs that were saved before the axis existed; taken from `Case`.
    """

    meaning: str
    allowed: tuple[str, ...] = ()
    in_every_id: bool = True
    overridable: bool = True
    name: str = ""
    type: type[str | int] = str
    default: AxisValue = ""

    def parse(self, text: str) -> AxisValue:
        """Convert the text of one option value into a value of this axis.

        Raises:
            OptionError: If the text is not an allowed value or, for an axis of integers, not an integer of at least 1.
        """
        if self.type is int:
            if not text.strip().isdecimal() or int(text) < 1:
                raise OptionError(f"axis {self.name} takes a whole number of at least 1, not {text!r}")
            return int(text)
        if self.allowed and text not in self.allowed:
            raise OptionError(f"axis {self.name} takes one of {', '.join(self.allowed)}, not {text!r}")
        return text


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """One point of the axes. Each field is an axis: to add an axis, add a line here."""

    architecture: Annotated[str, Axis("the network", overridable=False)] = ""
    phase: Annotated[str, Axis("forward, backward alone, or a whole training step", PHASES)] = "forward"
    device: Annotated[str, Axis("where it runs", overridable=False)] = "cpu"
    engine: Annotated[str, Axis("how it is executed", tuple(ENGINES))] = "eager"
    precision: Annotated[str, Axis("number format of parameters and images", PRECISIONS)] = "fp32"
    layout: Annotated[str, Axis("memory order of images and weights", LAYOUTS)] = "contiguous"
    batch: Annotated[Count, Axis("images in one call")] = 1
    image_size: Annotated[Count, Axis("height and width of an image in pixels")] = 32
    width: Annotated[Count, Axis("channels of the first layer; 0: as in the network's source", in_every_id=False)] = 0
    threads: Annotated[Count, Axis("CPU threads of a process; 0: as the environment sets", in_every_id=False)] = 0
    world_size: Annotated[
        Count, Axis("processes that train one network, each on its own batch", in_every_id=False, overridable=False)
    ] = 1

    def axes(self) -> dict[str, AxisValue]:
        """Return the axes as a plain dictionary, in the order of `AXES`."""
        return msgspec.structs.asdict(self)

    def replace(self, **axes: Any) -> Case:
        """Return the case with other values on some axes."""
        return msgspec.structs.replace(self, **axes)

    def difference(self, other: Case) -> dict[str, AxisValue]:
        """Return the axes in which another case differs, with the values of the other case."""
        return {name: value for name, value in other.axes().items() if value != getattr(self, name)}

    @classmethod
    def from_axes(cls, axes: Mapping[str, AxisValue]) -> Case:
        """Build a case from a mapping; a missing axis takes its default.

        Raises:
            OptionError: If a key is not an axis.
        """
        unknown = sorted(axes.keys() - AXIS_BY_NAME.keys())
        if unknown:
            raise OptionError(f"unknown axis {unknown[0]!r}; the axes are {', '.join(AXIS_BY_NAME)}")
        return cls(**axes)  # type: ignore[arg-type]  # values are of the type of their axis

    @property
    def device_type(self) -> str:
        """`cpu` or `cuda`, without the index of the device."""
        return self.device.partition(":")[0]

    @property
    def of_part(self) -> bool:
        """Whether the architecture is a part of a network, which takes feature maps."""
        return self.architecture.removeprefix("fused:").startswith("part:")

    @property
    def compiled(self) -> bool:
        """Whether the engine uses torch.compile."""
        engine = ENGINES.get(self.engine)  # a file may name one that this version does not know
        return engine is None or engine.compile_options is not None

    @property
    def trains(self) -> bool:
        """Whether the phase runs in train mode and computes gradients."""
        return self.phase != "forward"

    def id(self) -> str:
        """Return the pytest id: `arch=resnet18-phase=train-device=cpu-...`."""
        short = {"architecture": "arch"}
        named = [axis.name for axis in AXES if axis.in_every_id or not self.is_default(axis.name)]
        return "-".join(f"{short.get(name, name)}={getattr(self, name)}" for name in named)

    def label(self) -> str:
        """Return a short label without the axes that have their default value."""
        words = [self.architecture, self.phase, self.device, self.engine]
        words += [str(getattr(self, name)) for name in ("precision", "layout") if not self.is_default(name)]
        return " ".join([*words, f"batch {self.batch}", *self.sizes()])

    def sizes(self, names: Sequence[str] = ()) -> list[str]:
        """Return words such as `width 32` for axes whose value is not the default.

        Args:
            names: Axes; if empty, image_size and the axes of `LATER`.
        """
        return [f"{name} {getattr(self, name)}" for name in names or _SIZES if not self.is_default(name)]

    def is_default(self, name: str) -> bool:
        """Return whether an axis has its default value."""
        return bool(getattr(self, name) == AXIS_BY_NAME[name].default)


def _axes_of(fields: type[msgspec.Struct]) -> tuple[Axis, ...]:
    hints = get_type_hints(fields, include_extras=True)
    axes = []
    for field in msgspec.structs.fields(fields):
        kind, *extras = get_args(hints[field.name])
        (row,) = (extra for extra in extras if isinstance(extra, Axis))
        axes.append(replace(row, name=field.name, type=kind, default=field.default))
    return tuple(axes)


AXES = _axes_of(Case)
AXIS_BY_NAME: Mapping[str, Axis] = {axis.name: axis for axis in AXES}
LATER = tuple(axis.name for axis in AXES if not axis.in_every_id)
"""Axes that an id contains only if they differ from their default."""
_SIZES = ("image_size", *LATER)


def axes_of_label(label: str) -> dict[str, AxisValue]:
    """Return the axes in the label of a case, the inverse of `Case.label`.

    Raises:
        OptionError: If the label is empty, or a word is not a value of any axis.
    """
    words = label.split()
    if not words:
        raise OptionError(f"a case reads like 'resnet18 train cpu eager batch 4', not {label!r}")
    axes: dict[str, AxisValue] = {"architecture": words[0]}
    rest = iter(words[1:])
    for word in rest:
        numbered = word in AXIS_BY_NAME and AXIS_BY_NAME[word].type is int
        name = word if numbered else _axis_of(word, label)
        axes[name] = AXIS_BY_NAME[name].parse(next(rest, "") if numbered else word)
    return axes


def _axis_of(word: str, label: str) -> str:
    if word.partition(":")[0] in {"cpu", "cuda"}:
        return "device"
    for axis in AXES:
        if word in axis.allowed:
            return axis.name
    raise OptionError(
        f"{word!r} in {label!r} is not a phase, device, engine, precision or layout; a case reads like "
        "'resnet18 train cpu eager batch 4'"
    )
