#!/usr/bin/env python3
"""Print the measured table behind `cnnperf.fusion.block`: two ways to the squeeze in a compiled network, as Markdown.

    python scripts/crossovers.py [SECONDS]        (default: 2 for each shape)

Both ways go from the output of a block's first convolution and that of its second to the block's output, in inference:
`direct` reads the second convolution's output for the squeeze, `linear` takes the sums from which it follows where the
first BatchNorm and ReLU are computed.
"""

import argparse
import sys

import torch
from torch import Tensor, nn

from cnnperf.fusion import algebra, block, operators
from cnnperf.fusion.linear_squeeze import squeeze_of_convolution
from cnnperf.fusion.native import build as native
from cnnperf.fusion.norm import frozen
from cnnperf.measure.allocator import apply_policy
from cnnperf.measure.clock import clock_for
from cnnperf.measure.environment import cpu_model
from cnnperf.measure.paired import sample_together
from cnnperf.measure.sampler import Schedule
from cnnperf.report.cases import factor_text
from cnnperf.units import format_quantity

SHAPES = (
    *((4, 64, 32, 32), (32, 64, 32, 32), (64, 64, 32, 32), (128, 64, 32, 32), (128, 128, 16, 16)),
    *((8, 64, 56, 56), (32, 64, 56, 56), (32, 128, 28, 28), (8, 256, 56, 56), (8, 64, 112, 112)),
)


class Way:
    """Run one of the two ways as a subject to sample."""

    def __init__(self, shape: tuple[int, ...], *, linear: bool) -> None:
        """Draw the maps, channels_last as a compiled network has them, and compile the way."""
        torch.manual_seed(0)
        channels = shape[1]
        draw = [torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(3)]
        self.first, self.second, self.shortcut = draw
        self.norm = nn.BatchNorm2d(channels).eval()
        self.weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
        self.excitation = (torch.randn(channels // 16, channels), torch.randn(channels, channels // 16))
        self.compiled = torch.compile(self.linear if linear else self.direct, dynamic=False)

    def direct(self) -> tuple[Tensor, Tensor]:
        """Read the second convolution's output for the squeeze."""
        return torch.relu(self.norm(self.first)), self.tail(None)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Take the squeeze from sums of the second convolution's input."""
        between, sums = operators.rectified_norm(self.first, *frozen(self.norm, self.first))
        return between, self.tail(squeeze_of_convolution(sums, self.weight, self.first[0, 0].numel()))

    def tail(self, squeezed: Tensor | None) -> Tensor:
        """Compute the tail behind the second convolution."""
        norm = frozen(self.norm, self.second)
        scale, shift = operators.tail_scaling(self.second, squeezed, *norm, *self.excitation, None, None)
        return algebra.apply_scaling(self.second, self.shortcut, scale, shift)

    def setup(self) -> None:
        """Do nothing."""

    def run(self) -> None:
        """Run the way once."""
        with torch.no_grad():
            self.compiled()

    def relocate(self) -> None:
        """Put the maps at fresh addresses."""
        self.first, self.second, self.shortcut = (one.clone() for one in (self.first, self.second, self.shortcut))


def write(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure all shapes, and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=2.0, help="measuring budget for each shape and way")
    budget = parser.parse_args().seconds
    if not native.available():
        sys.exit("the C++ kernels could not be built")
    apply_policy("retain")
    machine = f"{cpu_model()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    write(f"{machine}; fp32, channels_last; n: timed rounds of each way:\n")
    write("| shape | direct | linear | direct/linear | n | chosen |\n| --- | ---: | ---: | ---: | ---: | --- |")
    for shape in SHAPES:
        torch.compiler.reset()
        ways = {"linear": Way(shape, linear=True), "direct": Way(shape, linear=False)}
        together = sample_together(ways, clock_for(torch.device("cpu")), Schedule(budget=budget))
        times = (format_quantity(together.latency(name).value, "s") for name in ("direct", "linear"))
        chosen = "linear" if block.pays(ways["direct"].first) else "direct"
        rounds = str(sum(map(len, together.groups["direct"])))
        cells = ("x".join(map(str, shape)), *times, factor_text(together.ratio("direct", "linear")), rounds, chosen)
        write(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
