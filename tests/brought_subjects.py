"""Networks with inputs, losses and optimizers of their own, and some that cannot be used."""

import torch
from torch import nn

from cnnperf import Subject


def regression():
    """One channel, other pixels, a target and another optimizer."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    return Subject(
        model,
        torch.randn(6, 1, 20, 20),
        loss=nn.functional.mse_loss,
        target=torch.randn(6, 2),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    )


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, tokens, *, mask, scale):
        return {"logits": self.out((self.embedding(tokens) * mask[..., None]).mean(1)) * scale}


def text():
    """Keyword arguments, integers and a number."""
    inputs = {"tokens": torch.randint(50, (5, 7)), "mask": torch.ones(5, 7), "scale": 2.0}
    return Subject(
        Text(),
        inputs,
        loss=lambda out, target: nn.functional.cross_entropy(out["logits"], target),
        target=torch.randint(3, (5,)),
    )


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 1)

    def forward(self, maps, more):
        return self.linear(torch.cat([maps[0].mean((2, 3)), maps[1]["map"].mean((2, 3))], 1)) + more


def pair():
    """Maps in a list, in a dictionary, and by position."""
    maps = [torch.randn(4, 3, 8, 8), {"map": torch.randn(4, 3, 8, 8)}]
    return Subject(Pair(), (maps, torch.zeros(4, 1)))


def detector():
    """A network that computes its losses itself."""

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3)

        def forward(self, images, boxes=None):
            found = self.body(images).mean((2, 3))
            return {"loss_boxes": (found - boxes).abs().mean()} if self.training else [{"boxes": found}]

    inputs = {"images": torch.randn(2, 3, 16, 16), "boxes": torch.rand(2, 4)}
    return Subject(Detector(), inputs, loss=lambda out: sum(out.values()) if isinstance(out, dict) else out)


def without_tensor():
    return Subject(nn.Linear(1, 1), (3,))


def wrong_inputs():
    return Subject(nn.Linear(1, 1), 3)


def failing():
    return Subject(nn.Linear(1, 1), torch.randn(3, 2))


def changing():
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, state):
            state["x"].add_(1)
            return self.linear(state["x"])

    return Subject(Changing(), ({"x": torch.zeros(2, 3)},))
