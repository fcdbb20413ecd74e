"""The study of gradient flow: several depths, both families, the growth across depths and what it means."""

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
    """Return the growth a layer of the mean absolute gradient at the input, fitted over stacks of several depths.

    Args:
        flows: Of one family, with the same seeds.
    """
    seeds = [list(series) for series in zip(*(flow.at_input() for flow in flows), strict=True)]
    return fit_growth([flow.layers()[0] for flow in flows], seeds)


def flow_outcome(flows: Sequence[GradientFlow], where: str) -> Outcome:
    """Return what the study found.

    Args:
        flows: Of at least two depths, plain and residual, all with the same seeds and otherwise the same setting.
        where: Machine, device and versions.
    """
    setting = flows[0].setting
    growths = {family: growth_over_depths(_of(flows, family)) for family in FAMILIES}
    depths = list(dict.fromkeys(flow.setting.num_blocks for flow in flows))
    by_place = {(flow.family, _blocks(flow)): flow for flow in flows}
    rows = [(str(blocks), *(_mean_text(by_place[family, blocks]) for family in FAMILIES)) for blocks in depths]
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
    how = f"{NORMALIZED[setting.normalization]}, {setting.initialization} initialisation"
    sentences = [
        f"The gradient of the {family} stack {_verb(growth)} towards the input: {_growth_text(growth)} a layer over "
        f"all; {growth.reason} ({how}, {growth.seeds} seeds)."
        for family, growth in growths.items()
    ]
    plain = growths["plain"]
    if setting.normalization == "batch":
        off = plain.rate / BATCH_NORM_GROWTH - 1
        sentences.append(
            f"Theory for plain ReLU networks with batch statistics, wide and with large batches, is "
            f"{BATCH_NORM_GROWTH:.4f} a layer (Yang et al., 2019): the fit is {off:+.1%} away from it."
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


def _blocks(flow: GradientFlow) -> int:
    return flow.setting.num_blocks


def _samples(flows: Sequence[GradientFlow]) -> pd.DataFrame:
    rows = [
        (
            *("gradient-flow", flow.family, _blocks(flow), flow.setting.normalization, flow.setting.initialization),
            *(flow.setting.batch, seed, block, layers, flow.absolute[number][block], flow.norms[number][block]),
        )
        for flow, (number, seed) in ((flow, one) for flow in flows for one in enumerate(flow.seeds))
        for block, layers in enumerate(flow.layers())
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
