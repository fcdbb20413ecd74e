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
        compile_options: Keyword arguments of `torch.compile`; None if nothing is compiled.
        cuda_only: Reason why only CUDA devices have the engine; empty if every device has it.
        replays_graphs: Whether calls replay CUDA graphs. Their memory is a separate pool, which is not measured.
        rotates: Whether a replay makes several calls on sets of maps that together exceed the cache, timed on the
            device; only for parts of networks.
    """

    name: str
    compile_options: Mapping[str, Any] | None = None
    cuda_only: str = ""
    replays_graphs: bool = False
    rotates: bool = False


_REPLAYS = "replays of CUDA graphs need a CUDA device; on the CPU the engines are eager and compile"

_TABLE = (
    Engine("eager"),
    Engine("compile", {}),
    Engine(
        "cudagraphs",
        {"mode": "reduce-overhead"},
        cuda_only="CUDA graphs need a CUDA device; on the CPU the engine is compile",
        replays_graphs=True,
    ),
    Engine("replay", cuda_only=_REPLAYS, replays_graphs=True, rotates=True),
    Engine("compile_replay", {}, cuda_only=_REPLAYS, replays_graphs=True, rotates=True),
)
ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in _TABLE}
NETWORK_ENGINES = tuple(engine.name for engine in _TABLE if not engine.rotates)
"""Engines that run whole networks."""
USUAL_ENGINES = tuple(engine.name for engine in _TABLE if not engine.cuda_only)
"""Engines that every device has."""
