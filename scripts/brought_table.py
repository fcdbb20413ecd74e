"""Measure networks of torchvision and timm, and print what became of each as a Markdown table.

    python -m venv libraries && libraries/bin/pip install torch==2.14.1 torchvision==0.29.1 timm .
    libraries/bin/python scripts/brought_table.py > results/brought/libraries.md

Each is called a few times in inference and in a training step, eagerly, which shows whether it can be measured; the
times are not for reading. It takes some ten minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tabulate import tabulate

from cnnperf.errors import CnnperfError
from cnnperf.measure.measurement import Laboratory
from cnnperf.models.catalog import resolve
from cnnperf.suite.plan import SMOKE, Plan
from cnnperf.units import format_quantity

NETWORKS = {
    "classification": (
        *(f"torchvision.models:{name}" for name in ("alexnet", "vgg11", "resnet50", "densenet121", "squeezenet1_1")),
        *(f"torchvision.models:{name}" for name in ("mobilenet_v3_large", "efficientnet_b0", "convnext_tiny")),
        *(f"torchvision.models:{name}" for name in ("shufflenet_v2_x1_0", "mnasnet1_0", "regnet_y_400mf", "vit_b_16")),
        *(f"timm:{name}" for name in ("resnet18", "seresnet50", "rexnet_100", "efficientnet_lite0", "mobileone_s0")),
        *(f"timm:{name}" for name in ("legacy_seresnet18", "swin_tiny_patch4_window7_224", "tf_efficientnet_b0")),
    ),
    "classification, auxiliary outputs": ("library_networks:googlenet", "library_networks:inception"),
    "detection": tuple(f"library_networks:{name}" for name in ("fasterrcnn", "retinanet", "ssdlite")),
    "segmentation": tuple(f"library_networks:{name}" for name in ("fcn", "deeplab", "lraspp")),
    "video": ("library_networks:video",),
}
"""Networks by sort."""

SIZES = {"library_networks:inception": 299}
DEFAULT_SIZE = 224
PHASES = ("forward", "train")


def main() -> None:
    """Print the table, and each row on the standard error as soon as it is there."""
    sys.path.insert(0, str(Path(__file__).parent))
    rows = []
    for sort, names in NETWORKS.items():
        for name in names:
            row = (sort, f"`{name}`", *outcomes(name))
            print(row, file=sys.stderr, flush=True)  # noqa: T201 - progress of a script
            rows.append(row)
    print(f"torch {torch.__version__}, CPU, a few rounds of batch 2 each\n")  # noqa: T201 - the output of a script
    print(tabulate(rows, ("sort", "network", *PHASES), tablefmt="github"))  # noqa: T201 - the output of a script


def outcomes(name: str) -> Iterator[str]:
    """Yield what became of a network in each phase: its latency and findings, or why it was not measured."""
    for phase in PHASES:
        try:
            row = resolve(name)
            overrides: dict[str, tuple[str | int, ...]] = {"phase": (phase,), "engine": ("eager",)}
            if row.subject is None:
                overrides |= {"batch": (2,), "image_size": (SIZES.get(name, DEFAULT_SIZE),)}
            (case,) = Plan(overrides=overrides).cases(row)
            measured = Laboratory(SMOKE).measure(case)
        except CnnperfError as error:
            yield f"not measured: {error}"
            continue
        kinds = [finding.kind for finding in measured.findings if finding.kind not in ("small sample", "spread")]
        seconds = format_quantity(measured.values["latency"].value, "s")
        yield f"{seconds}{'; ' if kinds else ''}{', '.join(kinds)}"


if __name__ == "__main__":
    main()
