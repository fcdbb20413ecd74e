"""Measure networks of many sorts, and print what became of each as a Markdown table.

    python scripts/brought_table.py sorts > results/brought/sorts.md
    python scripts/brought_table.py libraries > results/brought/libraries.md
    python scripts/brought_table.py libraries detection segmentation

`sorts` has the networks of the tests. `libraries` has networks of torchvision and timm, which need an environment of
their own: `pip install torch==2.14.1 torchvision==0.29.1 timm .`, and take some ten minutes. Each network is called a
few times in inference and in a training step, eagerly, which shows whether it can be measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tabulate import tabulate

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.measure.classes import count_classes
from cnnperf.measure.measurement import Laboratory
from cnnperf.models.catalog import resolve
from cnnperf.suite.plan import SMOKE, Plan

Table = dict[str, tuple[str, ...]]

SORTS: Table = {
    "weight norm, spectral norm": ("weight_norm", "parametrized", "spectral"),
    "shapes from the first call": ("lazy", "Coordinates", "Unused"),
    "state": ("NewBuffer", "Counting"),
    "outputs": ("Auxiliary", "InDictionary", "InDataClass", "Segmenter"),
    "values": ("EarlyExit", "ByMask"),
    "inputs changed": ("Normalized", "brought_subjects:changing"),
    "kinds of tensors": ("Complex", "OnlyFloat", "Double", "Tied"),
    "rounding decides": ("Discontinuous",),
    "random numbers": ("DrawsFromPython", "DrawsFromNumpy"),
    "layers": ("Video", "Recurrent", "Pooled"),
    "inputs of its own": tuple(f"brought_subjects:{name}" for name in ("regression", "text", "pair", "detector")),
    "refused": tuple(f"brought_subjects:{name}" for name in ("without_tensor", "wrong_inputs", "failing")),
}
LIBRARIES: Table = {
    "classification": (
        *(f"torchvision.models:{name}" for name in ("alexnet", "vgg11", "resnet50", "densenet121", "squeezenet1_1")),
        *(f"torchvision.models:{name}" for name in ("mobilenet_v3_large", "efficientnet_b0", "convnext_tiny")),
        *(f"torchvision.models:{name}" for name in ("shufflenet_v2_x1_0", "mnasnet1_0", "regnet_y_400mf", "vit_b_16")),
        *(f"timm:{name}" for name in ("resnet18", "seresnet50", "rexnet_100", "efficientnet_lite0", "mobileone_s0")),
        *(f"timm:{name}" for name in ("legacy_seresnet18", "swin_tiny_patch4_window7_224", "tf_efficientnet_b0")),
    ),
    "auxiliary outputs": ("library_networks:googlenet", "library_networks:inception"),
    "detection": tuple(f"library_networks:{name}" for name in ("fasterrcnn", "retinanet", "ssdlite")),
    "segmentation": tuple(f"library_networks:{name}" for name in ("fcn", "deeplab", "lraspp")),
    "video": ("library_networks:video",),
}
TABLES = {"sorts": (SORTS, "tests", 32), "libraries": (LIBRARIES, "scripts", 224)}
"""Networks by sort, the folder of their modules, and their image size."""

SIZES = {"library_networks:inception": 299}
PHASES = ("forward", "train")
OFTEN = {"small sample", "spread", "drift", "stall", "warm-up", "above the ceiling", "waiting"}
"""Findings about a few rounds on a busy machine."""


def main() -> None:
    """Print the table, and each row on the standard error as soon as it is there."""
    whole, folder, size = TABLES[sys.argv[1]]
    table = {sort: names for sort, names in whole.items() if sort in (sys.argv[2:] or whole)}
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
    rows = []
    for sort, names in table.items():
        for name in names:
            target = name if ":" in name else f"brought_networks:{name}"
            rows.append((sort, f"`{target}`", *outcomes(target, SIZES.get(target, size))))
            print(rows[-1], file=sys.stderr, flush=True)  # noqa: T201 - progress of a script
    print(f"torch {torch.__version__}, CPU, a few eager rounds of batch 2 each\n")  # noqa: T201 - the output
    print(tabulate(rows, ("sort", "network", *PHASES), tablefmt="github"))  # noqa: T201 - the output


def outcomes(target: str, size: int) -> Iterator[str]:
    """Yield what became of a network in each phase: measured with its findings, or why it was not."""
    for phase in PHASES:
        try:
            yield measured(target, size, phase)
        except OptionError as error:
            yield f"refused: {error}"
        except CnnperfError as error:
            yield f"not measured: {error}"


def measured(target: str, size: int, phase: str) -> str:
    """Return the findings about a network that is measured."""
    row = resolve(target)
    overrides: dict[str, tuple[str | int, ...]] = {"phase": (phase,), "engine": ("eager",)}
    if row.subject is None:
        overrides |= {"batch": (2,), "image_size": (size,)}
    (case,) = Plan(overrides=overrides).cases(row)
    count_classes(row, case.image_size)
    result = Laboratory(SMOKE).measure(case)
    kinds = [finding.kind for finding in result.findings if finding.kind not in OFTEN]
    return f"measured{': ' if kinds else ''}{', '.join(kinds)}"


if __name__ == "__main__":
    main()
