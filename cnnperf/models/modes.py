"""Global modes and random states of the process, kept as they are while a user's code runs.

A module that switches gradients off when it is imported, sets the default dtype or seeds a generator would change every
case that is measured after it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]

MODES: tuple[Setting, ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
)
"""How a mode is read, and how it is set."""


@contextmanager
def preserved_modes() -> Iterator[None]:
    """Restore global modes, and the random states of torch, numpy and `random`, after the block."""
    modes = [(read, write, read()) for read, write in MODES]
    states = [(write, read()) for read, write in _generators()]
    try:
        yield
    finally:
        for read, write, value in modes:
            if read() != value:  # setting the number of threads would start new ones
                write(value)
        for write, state in states:
            write(state)


def random_states() -> list[bytes]:
    """Return the states of all random generators that a network may draw from, to be compared."""
    states = [repr(random.getstate()).encode(), torch.get_rng_state().numpy().tobytes()]
    if "numpy" in sys.modules:
        import numpy as np

        _, keys, position, *_ = cast(Any, np.random.get_state())  # noqa: NPY002 - the one that networks draw from
        states += [keys.tobytes(), str(position).encode()]
    if torch.cuda.is_initialized():
        states += [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return states


def _generators() -> Iterator[Setting]:
    yield random.getstate, random.setstate
    yield torch.get_rng_state, torch.set_rng_state
    if "numpy" in sys.modules:
        import numpy as np

        yield np.random.get_state, np.random.set_state
    if torch.cuda.is_initialized():
        yield torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all
