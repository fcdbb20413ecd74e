"""Copies of images from host memory to a CUDA device, an extra cost if images are not on the device yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from cnnperf.measure.clock import Clock
from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval

ROUNDS = 9
WARM_UP = 2

HOSTS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "copy_pageable": lambda images: images,
    "copy_pinned": lambda images: images.pin_memory(),
}
"""Host memory by metric; the driver copies pageable memory through a pinned buffer."""


def measure_transfers(images: torch.Tensor, device: torch.device, clock: Clock) -> dict[str, Value]:
    """Return the seconds of synchronized copies of images to a device, by metric.

    Args:
        images: Images in host memory, in the shape, dtype and layout of a call.
        device: CUDA device.
        clock: Clock of the device.
    """
    target = torch.empty_like(images, device=device)
    return {name: _copies(place(images), target, clock) for name, place in HOSTS.items()}


def _copies(source: torch.Tensor, target: torch.Tensor, clock: Clock) -> Value:
    def copy() -> None:
        target.copy_(source, non_blocking=True)

    readings = [clock.read(copy) for _ in range(WARM_UP + ROUNDS)]
    return median_interval([[reading.wall] for reading in readings[WARM_UP:]])
