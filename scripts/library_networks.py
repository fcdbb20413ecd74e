"""Networks of torchvision and timm as factories, for `scripts/brought_table.py`; none downloads weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torchvision import models

from cnnperf import Subject

IMAGES, BOXES = 2, 3
SIZE = 128


def detection(build: Callable[..., torch.nn.Module], **others: Any) -> Subject:
    """Return a detector that trains on boxes: its output in training is a dictionary of losses."""
    torch.manual_seed(0)
    corners = torch.rand(IMAGES, BOXES, 2) * SIZE / 2
    boxes = torch.cat([corners, corners + 1 + torch.rand(IMAGES, BOXES, 2) * SIZE / 2], dim=2)
    labels = torch.randint(1, 5, (IMAGES, BOXES))
    wanted = [{"boxes": each, "labels": label} for each, label in zip(boxes, labels, strict=True)]
    for each in wanted if "mask" in build.__name__ else ():
        each["masks"] = torch.ones(BOXES, SIZE, SIZE, dtype=torch.uint8)
    images = [torch.rand(3, SIZE, SIZE) for _ in range(IMAGES)]
    model = build(weights=None, weights_backbone=None, num_classes=5, **others)
    return Subject(model, (images, wanted), loss=sum_of_losses)


def sum_of_losses(output: Any) -> torch.Tensor:
    """Return the sum of the losses that a detector returns in training."""
    return torch.stack(list(output.values())).sum()


def segmentation(build: Callable[..., torch.nn.Module]) -> Subject:
    """Return a network that gives each pixel scores, in a dictionary."""
    model = build(weights=None, weights_backbone=None, num_classes=4)
    target = torch.randint(4, (IMAGES, SIZE, SIZE))
    return Subject(model, torch.randn(IMAGES, 3, SIZE, SIZE), loss=pixelwise, target=target)


def pixelwise(output: dict[str, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the scores of all pixels."""
    return torch.nn.functional.cross_entropy(output["out"], target)


fasterrcnn = partial(detection, models.detection.fasterrcnn_mobilenet_v3_large_320_fpn, min_size=SIZE, max_size=SIZE)
retinanet = partial(detection, models.detection.retinanet_resnet50_fpn, min_size=SIZE, max_size=SIZE)
ssdlite = partial(detection, models.detection.ssdlite320_mobilenet_v3_large)
fcn = partial(segmentation, models.segmentation.fcn_resnet50)
deeplab = partial(segmentation, models.segmentation.deeplabv3_mobilenet_v3_large)
lraspp = partial(segmentation, models.segmentation.lraspp_mobilenet_v3_large)
googlenet = partial(models.googlenet, weights=None, init_weights=False)
inception = partial(models.inception_v3, weights=None, init_weights=False)
video = partial(
    lambda: Subject(models.video.r3d_18(weights=None), torch.randn(1, 3, 4, 32, 32)),
)
