"""What the tests of the fusions share: layouts, tolerances, and how often a compiled function passes over a map."""

from dataclasses import dataclass

import torch

EPS = 1e-5
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def passes(function, *arguments):
    """Return how many maps like the first tensor a compiled function reads and writes, as Inductor counts bytes."""
    import torch._logging
    from torch._inductor import config, metrics

    torch.compiler.reset()
    metrics.reset()
    torch._logging.set_logs(inductor_metrics=True)  # the count stays 0 without it
    try:
        with config.patch(fx_graph_cache=False):
            torch.compile(function)(*arguments)
    finally:
        torch._logging.set_logs()
    x = next(one for one in arguments if isinstance(one, torch.Tensor))
    return metrics.num_bytes_accessed / (x.numel() * x.element_size())


@dataclass(frozen=True)
class Elsewhere:
    """Be another process with as many samples, whose statistics are known."""

    parts: tuple[torch.Tensor, ...]
    values: int

    def merge(self, mu, variance):
        other, spread = (one.to(mu.dtype) for one in self.parts[:2])
        return (mu + other) / 2, (variance + spread) / 2 + (mu - other).square() / 4

    def add(self, first, second):
        others = (one.to(first.dtype) for one in self.parts[2:])
        return *(own + one for own, one in zip((first, second), others, strict=True)), torch.tensor(2 * self.values)
