"""Initialize networks: He initialization of the weights, from a seed that leaves the global one alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def he_initialize(network: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers from N(0, 2 / fan_in); set biases to zero.

    BatchNorm keeps PyTorch's default, scale one and shift zero.

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, section 2.2, equation 10,
    https://arxiv.org/abs/1502.01852.

    Args:
        network: The network whose parameters are overwritten in place.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random numbers and build tensors on the CPU within the block; restore both after it.

    Args:
        seed: The seed of PyTorch's generator on the CPU.

    Yields:
        Nothing; what is built within the block depends on the seed alone.
    """
    # torch.manual_seed would also reseed every accelerator, which fork_rng(devices=[]) does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
