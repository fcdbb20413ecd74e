"""Initialization of networks: He initialization of weights, and seeding that restores the global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def he_initialize(network: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers from N(0, 2 / fan_in); set biases to zero.

    BatchNorm keeps PyTorch's default of scale one and shift zero.

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, section 2.2, equation 10,
    https://arxiv.org/abs/1502.01852.

    Args:
        network: Network whose parameters are overwritten in place.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator and make the CPU the default device inside the block; restore both after it."""
    # torch.manual_seed would also reseed every accelerator, which fork_rng(devices=[]) does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
