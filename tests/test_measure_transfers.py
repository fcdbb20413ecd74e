"""Copies to a device, on one that stands in for it."""

import pytest
import torch

from cnnperf.measure.clock import Reading
from cnnperf.measure.transfers import ROUNDS, measure_transfers


class Host:
    """Images in host memory that note where they were copied from."""

    def __init__(self, kind="pageable"):
        self.kind = kind

    def pin_memory(self):
        return Host("pinned")


class Target:
    def __init__(self):
        self.copies = []

    def copy_(self, source, *, non_blocking):
        assert non_blocking
        self.copies.append(source.kind)


def test_pinned_and_pageable_memory_are_copied_from_apart_and_not_cold(monkeypatch):
    target = Target()
    monkeypatch.setattr(torch, "empty_like", lambda images, device: target)
    seconds = {"pageable": iter([9.0, 9.0, *[3e-3] * ROUNDS]), "pinned": iter([9.0, 9.0, *[1e-3] * ROUNDS])}

    class Clock:
        def read(self, call):
            call()
            return Reading(next(seconds[target.copies[-1]]), 0.0)

    found = measure_transfers(Host(), torch.device("cuda"), Clock())
    assert {name: value.value for name, value in found.items()} == {"copy_pageable": 3e-3, "copy_pinned": 1e-3}
    assert all(value.low is not None for value in found.values())


@pytest.mark.gpu
def test_on_a_device_both_copies_take_time():
    from cnnperf.measure.clock import clock_for

    device = torch.device("cuda")
    found = measure_transfers(torch.randn(64, 3, 32, 32), device, clock_for(device))
    assert min(value.value for value in found.values()) > 0
