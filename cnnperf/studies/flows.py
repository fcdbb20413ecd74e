"""The study of gradient flow: gradients of plain and residual stacks of several depths, and their growth."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cnnperf.stats.growth import BATCH_NORM_GROWTH, Growth, fit_growth
from cnnperf.studies.drawn import flow_chart
from cnnperf.studies.gradient_flow import FAMILIES, GradientFlow, Setting
from cnnperf.studies.outcome import Outcome

NORMALIZED = {"batch": "batch statistics", "running": "running statistics", "none": "no normalisation"}
COLUMNS = (
    *("study", "family", "blocks", "normalization", "initialization", "batch", "seed"),
    *("block", "layers", "absolute", "rms"),
)


def growth_over_depths(flows: Sequence[GradientFlow]) -> Growth:
    """Fit the growth per layer of the mean absolute gradient at the input over stacks of several depths.

    Args:
        flows: Gradient flows of one family, with the same seeds.
    """
    seeds = [list(series) for series in zip(*(flow.at_input() for flow in flows), strict=True)]
    return fit_growth([flow.layers()[0] for flow in flows], seeds)


def flow_outcome(flows: Sequence[GradientFlow], where: str) -> Outcome:
    """Return the outcome of the study.

    Args:
        flows: Gradient flows of both families at two depths or more, with the same seeds and settings otherwise.
        where: Machine, device and versions.
    """
    setting = flows[0].setting
    growths = {family: growth_over_depths(_of(flows, family)) for family in FAMILIES}
    depths = list(dict.fromkeys(flow.setting.num_blocks for flow in flows))
    by_stack = {(flow.family, flow.setting.num_blocks): flow for flow in flows}
    rows = [(str(blocks), *(_mean_text(by_stack[family, blocks]) for family in FAMILIES)) for blocks in depths]
    rows.append(("growth a layer", *(_growth_text(growths[family]) for family in FAMILIES)))
    rows.append(("at first, later", *(_halves_text(growths[family]) for family in FAMILIES)))
    rows.append(("verdict", *(growths[family].verdict for family in FAMILIES)))
    with_theory = setting.normalization == "batch"
    return Outcome(
        "gradient-flow",
        _answer(setting, growths),
        ("blocks", *(f"{family}: mean abs. gradient at the input" for family in FAMILIES)),
        rows,
        _samples(flows),
        flow_chart(flows, theory=with_theory),
        where,
    )


def _answer(setting: Setting, growths: dict[str, Growth]) -> list[str]:
    settings = f"{NORMALIZED[setting.normalization]}, {setting.initialization} initialisation"
    sentences = [
        f"The gradient of the {family} stack {_verb(growth)} towards the input: {_growth_text(growth)} a layer over "
        f"all; {growth.reason} ({settings}, {growth.seeds} seeds)."
        for family, growth in growths.items()
    ]
    plain = growths["plain"]
    if setting.normalization == "batch":
        deviation = plain.rate / BATCH_NORM_GROWTH - 1
        sentences.append(
            f"Theory for plain ReLU networks with batch statistics, wide and with large batches, is "
            f"{BATCH_NORM_GROWTH:.4f} a layer (Yang et al., 2019): the fit is {deviation:+.1%} away from it."
        )
    return [*sentences, "A larger gradient is not a healthier one: training wants about the same size at every depth."]


def _verb(growth: Growth) -> str:
    return {"stable": "is stable", "not decided": "is not decided"}.get(growth.verdict, growth.verdict)


def _growth_text(growth: Growth) -> str:
    return f"{growth.rate:.4f} [{growth.low:.4f}, {growth.high:.4f}]"


def _halves_text(growth: Growth) -> str:
    return f"{growth.halves[0]:.4f}, {growth.halves[1]:.4f}"


def _mean_text(flow: GradientFlow) -> str:
    return f"{float(flow):.4g} ({min(flow.at_input()):.4g} to {max(flow.at_input()):.4g})"


def _of(flows: Sequence[GradientFlow], family: str) -> list[GradientFlow]:
    return [flow for flow in flows if flow.family == family]


def _samples(flows: Sequence[GradientFlow]) -> pd.DataFrame:
    rows = []
    for flow in flows:
        setting = flow.setting
        labels = "gradient-flow", flow.family, setting.num_blocks, setting.normalization, setting.initialization
        for seed, absolute, norms in zip(flow.seeds, flow.absolute, flow.norms, strict=True):
            for block, layers in enumerate(flow.layers()):
                rows.append((*labels, setting.batch, seed, block, layers, absolute[block], norms[block]))
    return pd.DataFrame(rows, columns=list(COLUMNS))
