"""Architectures named `fused:NAME`: any other architecture after `fuse`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

from torch import nn

from cnnperf.errors import OptionError
from cnnperf.fusion.fuse import fuse
from cnnperf.fusion.native import build as native
from cnnperf.models.architecture import Architecture
from cnnperf.models.catalog import resolve
from cnnperf.models.initialization import seeded
from cnnperf.models.subject import Subject

PREFIX = "fused:"
"""Prefix of such names."""

REASONS = 3
"""Largest number of reasons in an error."""


@cache
def from_fusion(name: str) -> Architecture:
    """Return the architecture `fused:NAME`, which is NAME after `fuse`.

    Args:
        name: "fused:" and another name, as `resolve` takes it.

    Returns:
        The architecture; its reference is NAME's own reference, or NAME.

    Raises:
        OptionError: If NAME cannot be resolved, or nothing in it can be fused.
    """
    plain = resolve(name.removeprefix(PREFIX))
    with seeded(0):
        trial = fuse(plain.build(), inplace=True)
    subject = plain.subject
    if not trial.fused:
        raise OptionError(
            f"architecture {name!r}: nothing in {plain.name} can be fused ({_summary(trial.left)}); "
            f"measure {plain.name} itself, or name a network with Squeeze-and-Excitation"
        )
    at_width = plain.build_at
    return replace(
        plain,
        name=name,
        build=partial(_fused, plain.build),
        build_at=None if at_width is None else lambda width: _fused(partial(at_width, width)),
        summary=f"{plain.summary}; its Squeeze-and-Excitation fused with what surrounds it",
        reference=plain.reference or plain.name,
        subject=None if subject is None else partial(_fused_subject, subject),
    )


def _fused(build: Callable[[], nn.Module]) -> nn.Module:
    return fuse(build(), inplace=True).model


def _fused_subject(build: Callable[[], Subject]) -> Subject:
    subject = build()
    return replace(subject, model=fuse(subject.model, inplace=True).model)


def _summary(left: Mapping[str, str]) -> str:
    """Return the reasons why modules cannot be fused, each with the first module that has it."""
    if not left:
        return "it has no Squeeze-and-Excitation"
    first: dict[str, str] = {}
    for name, reason in left.items():
        first.setdefault(reason, name or "the network itself")
    texts = [f"{name}: {reason}" for reason, name in first.items()]
    if len(texts) > REASONS:
        texts[REASONS:] = ["and others"]
    return ", ".join(texts)


def reason_not_fused(architecture: Architecture, device_type: str) -> str | None:
    """Return why an architecture would run on a device without its fused kernels; None if it runs with them.

    On a GPU the fallback of the tail is compiled and therefore fused, too. On the CPU the fallback is the formula
    operator by operator, whose time must not be reported as that of a fused network.

    Args:
        architecture: Any architecture; one without a reference is not fused.
        device_type: `cpu` or `cuda`.
    """
    if architecture.reference is None or device_type != "cpu":
        return None
    reason = native.reason_unavailable()
    if reason is None:
        return None
    return (
        f"{architecture.name} is not fused here: cnnperf's C++ kernels cannot be used ({reason}); install a g++ that "
        "supports C++20 (10 or newer), or name one in CXX"
    )
