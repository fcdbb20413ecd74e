"""The axes and the case: what is measured, as plain data.

A case is one point of the axes. Its identity is its axes, never the name of the test that measured it.
Nothing here imports torch, so that the analysing rooms and the plugin can use the axes for free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from cnnperf.errors import OptionError

AxisValue = str | int

PHASES = ("forward", "backward", "train")
ENGINES = ("eager", "compile", "cudagraphs")
USUAL_ENGINES = ("eager", "compile")
"""Those that every device has."""
PRECISIONS = ("fp32", "conv_tf32", "tf32", "bf16", "fp16", "amp", "amp_fp16")
LAYOUTS = ("contiguous", "channels_last")


@dataclass(frozen=True)
class Axis:
    """Describe one axis of the measured space.

    Attributes:
        name: The word used for the field, the option, the JSON key and the column.
        type: `str` or `int`.
        default: What was done before the axis existed; old run files are read with it.
        meaning: One phrase for help texts.
        allowed: The values that exist, or an empty tuple where any value of the type may.
    """

    name: str
    type: type[str | int]
    default: AxisValue
    meaning: str
    allowed: tuple[str, ...] = ()

    def parse(self, text: str) -> AxisValue:
        """Turn the text of one option value into a value of this axis.

        Raises:
            OptionError: If the text is not an integer of at least 1 where one is needed, or not an allowed value.
        """
        if self.type is int:
            if not text.strip().isdecimal() or int(text) < 1:
                raise OptionError(f"axis {self.name} takes a whole number of at least 1, not {text!r}")
            return int(text)
        if self.allowed and text not in self.allowed:
            raise OptionError(f"axis {self.name} takes one of {', '.join(self.allowed)}, not {text!r}")
        return text


AXES: tuple[Axis, ...] = (
    Axis("architecture", str, "", "the network"),
    Axis("phase", str, "forward", "forward, backward alone, or a whole training step", PHASES),
    Axis("device", str, "cpu", "where it runs"),
    Axis("engine", str, "eager", "how it is executed", ENGINES),
    Axis("precision", str, "fp32", "number format of parameters and images", PRECISIONS),
    Axis("layout", str, "contiguous", "memory order of images and weights", LAYOUTS),
    Axis("batch", int, 1, "images in one call"),
    Axis("image_size", int, 32, "height and width of an image in pixels"),
    Axis("width", int, 0, "channels of the first layer; 0: as in the network's source"),
    Axis("threads", int, 0, "CPU threads in one process; 0: as the environment gives"),
    Axis("world_size", int, 1, "processes that train one network together, each on a batch of its own"),
)
AXIS_BY_NAME: Mapping[str, Axis] = {axis.name: axis for axis in AXES}
LATER = ("width", "threads", "world_size")
"""Axes that ids name only where they are set, so that the names of tests stay what they were."""


@dataclass(frozen=True)
class Case:
    """One point of the axes; `AXES` says what each field means."""

    architecture: str
    phase: str = "forward"
    device: str = "cpu"
    engine: str = "eager"
    precision: str = "fp32"
    layout: str = "contiguous"
    batch: int = 1
    image_size: int = 32
    width: int = 0
    threads: int = 0
    world_size: int = 1

    def axes(self) -> dict[str, AxisValue]:
        """Return the axes as a plain dictionary, in the order of `AXES`."""
        return asdict(self)

    @classmethod
    def from_axes(cls, axes: Mapping[str, AxisValue]) -> Case:
        """Build a case from a mapping; an axis that is missing takes its default.

        Raises:
            OptionError: If a key is not an axis.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(axes) - known)
        if unknown:
            raise OptionError(f"unknown axis {unknown[0]!r}; the axes are {', '.join(AXIS_BY_NAME)}")
        merged = {axis.name: axes.get(axis.name, axis.default) for axis in AXES}
        return cls(**merged)  # type: ignore[arg-type]  # the table and the fields are the same list

    @property
    def device_type(self) -> str:
        """Return `cpu` or `cuda`, without the index of the device."""
        return self.device.partition(":")[0]

    @property
    def compiled(self) -> bool:
        """Tell whether torch.compile has a part in the engine."""
        return self.engine != "eager"

    @property
    def trains(self) -> bool:
        """Tell whether the phase runs in train mode and computes gradients."""
        return self.phase != "forward"

    def id(self) -> str:
        """Return the pytest id: `arch=resnet18-phase=train-device=cpu-...`."""
        short = {"architecture": "arch"}
        named = [name for name in AXIS_BY_NAME if name not in LATER or not self.is_default(name)]
        return "-".join(f"{short.get(name, name)}={getattr(self, name)}" for name in named)

    def label(self) -> str:
        """Return a short human label without the axes that have their default value."""
        words = [self.architecture, self.phase, self.device, self.engine]
        words += [str(getattr(self, name)) for name in ("precision", "layout") if not self.is_default(name)]
        return " ".join([*words, f"batch {self.batch}", *self.sizes()])

    def sizes(self, names: Sequence[str] = ("image_size", *LATER)) -> list[str]:
        """Return words for those of the axes that have not their default value, such as `width 32`."""
        return [f"{name} {getattr(self, name)}" for name in names if not self.is_default(name)]

    def is_default(self, name: str) -> bool:
        """Tell whether an axis has its default value."""
        return bool(getattr(self, name) == AXIS_BY_NAME[name].default)


def axes_of_label(label: str) -> dict[str, AxisValue]:
    """Return the axes that the label of a case names, the reverse of `Case.label`.

    Raises:
        OptionError: If there is no architecture, or a word stands for no value of an axis.
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
    named = [axis.name for axis in AXES if word in axis.allowed]
    if word.partition(":")[0] in {"cpu", "cuda"}:
        named = ["device"]
    if not named:
        raise OptionError(
            f"{word!r} in {label!r} is no phase, device, engine, precision or layout; a case reads like "
            "'resnet18 train cpu eager batch 4'"
        )
    return named[0]
