"""Networks of the sorts that users bring, each of which runs in plain PyTorch."""

import random
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


def head(channels=8):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def plain(first):
    return nn.Sequential(first, nn.ReLU(), head())


def weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plain(nn.utils.weight_norm(nn.Conv2d(3, 8, 3)))


def parametrized():
    return plain(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)))


def spectral():
    return plain(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)))


def lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))


class Coordinates(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("grid", None)
        self.body = plain(nn.Conv2d(5, 8, 3))

    def forward(self, x):
        if self.grid is None:
            lines = [torch.linspace(-1, 1, size, device=x.device, dtype=x.dtype) for size in x.shape[-2:]]
            self.grid = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
        return self.body(torch.cat([x, self.grid.expand(x.shape[0], -1, -1, -1)], dim=1))


class NewBuffer(nn.Module):
    """Replaces its buffer in each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        out = self.body[0](x)
        self.mean = out.mean((0, 2, 3)).detach()
        return self.body[2](self.body[1](out))


class Outputs(NamedTuple):
    logits: torch.Tensor
    auxiliary: torch.Tensor


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.main, self.side = nn.Conv2d(3, 8, 3), head(), head()

    def pack(self, main, side):
        return Outputs(main, side)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.pack(self.main(x), self.side(x)) if self.training else self.main(x)


class InDictionary(Auxiliary):
    def pack(self, main, side):
        return {"labels": main.argmax(1), "logits": main, "auxiliary": side}


@dataclass
class Packed:
    logits: torch.Tensor
    loss: float = 0.0


class InDataClass(Auxiliary):
    def pack(self, main, side):
        return Packed(main + 0 * side)


class EarlyExit(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.more, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), head()

    def forward(self, x):
        x = self.stem(x).relu()
        early = self.head(x)
        return early if early.softmax(1).amax() > 0.99 else self.head(self.more(x))


class ByMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 10)

    def forward(self, x):
        means = x.mean((2, 3))
        return self.linear(means[means[:, 0] > -100])


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, images):
        return self.body(images.sub_(0.45).div_(0.225))


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.body(x)


class Complex(nn.Module):
    """Filters in the frequency domain."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(3, 32, 17, dtype=torch.cfloat))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.head = head(3)

    def forward(self, x):
        return self.head(torch.fft.irfft2(torch.fft.rfft2(x) * self.filter))


class OnlyFloat(nn.Module):
    """Does not run in float64."""

    def __init__(self):
        super().__init__()
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return self.body(x.float())


class Tied(nn.Module):
    """Two parameters that are views of one storage."""

    def __init__(self):
        super().__init__()
        whole = torch.randn(2, 8, 3, 1, 1)
        self.first, self.second = nn.Parameter(whole[0]), nn.Parameter(whole[1])
        self.head = head()

    def forward(self, x):
        return self.head(nn.functional.conv2d(x, self.first) + nn.functional.conv2d(x, self.second))


class Unused(nn.Module):
    """Has a lazy layer that is never called."""

    def __init__(self):
        super().__init__()
        self.body, self.never = plain(nn.Conv2d(3, 8, 3)), nn.LazyLinear(3)

    def forward(self, x):
        return self.body(x)


class Counting(nn.Module):
    """Keeps state that no module knows of."""

    def __init__(self):
        super().__init__()
        self.body, self.calls = plain(nn.Conv2d(3, 8, 3)), 0

    def forward(self, x):
        self.calls += 1
        return self.body(x) * (1 + self.calls % 2)


class DrawsFromPython(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return self.body(x) * (1 + random.random())


class DrawsFromNumpy(DrawsFromPython):
    def forward(self, x):
        return self.body(x) * (1 + float(np.random.rand()))  # noqa: NPY002 - as networks do


class Double(nn.Module):
    """Keeps some tensors in double precision."""

    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.ones(10, dtype=torch.float64))
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return (self.body(x).double() + self.offset).float()


class Video(nn.Module):
    """Has convolutions of three dimensions."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv3d(3, 8, (1, 3, 3)), head()

    def forward(self, x):
        return self.head(self.body(x[:, :, None])[:, :, 0])


class Pooled(nn.Module):
    """Cannot be trained with one image."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.out = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.out(self.norm(self.stem(x).mean((2, 3), keepdim=True)).flatten(1))


class Recurrent(nn.Module):
    """Flattens its weights into one storage on a GPU, and checks their addresses."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(96, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x):
        return self.out(self.rnn(x.transpose(1, 2).flatten(2))[0][:, -1])


class Discontinuous(nn.Module):
    """Lets rounding decide, as the suppression of boxes does."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 10)

    def forward(self, x):
        scores = self.linear(x.mean((2, 3)))
        return scores * (1 + (scores.detach() * 2**30).floor().remainder(4))
