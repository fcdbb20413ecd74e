"""The engines: how a network is executed, as a table. To add an engine, add a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Engine:
    """One way to execute a network.

    Attributes:
        name: Value of the axis `engine`.
        compile_options: Keyword arguments of `torch.compile`; None where nothing is compiled.
        cuda_only: Reason why only CUDA devices have it; empty where every device does.
        replays_graphs: Whether calls replay CUDA graphs: their memory is a pool of its own, which is not measured.
    """

    name: str
    compile_options: Mapping[str, Any] | None = None
    cuda_only: str = ""
    replays_graphs: bool = False


_TABLE = (
    Engine("eager"),
    Engine("compile", {}),
    Engine(
        "cudagraphs",
        {"mode": "reduce-overhead"},
        cuda_only="CUDA graphs are of a CUDA device; on the CPU the engine is compile",
        replays_graphs=True,
    ),
)
ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in _TABLE}
USUAL_ENGINES = tuple(engine.name for engine in _TABLE if not engine.cuda_only)
"""Engines that every device has."""
