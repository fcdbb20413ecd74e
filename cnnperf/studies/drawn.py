"""The figures of the studies, as charts like those of the reports."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from cnnperf.extras import needs_extra
from cnnperf.report.drawing import Chart
from cnnperf.report.rows import Row, rounded
from cnnperf.stats.growth import BATCH_NORM_GROWTH
from cnnperf.studies.contrast import Contrast, Pair
from cnnperf.studies.effects import POINTS, accuracy_effect
from cnnperf.studies.gradient_flow import GradientFlow

with needs_extra("study", "a study"):
    import altair as alt

WIDTH, HEIGHT = 480, 220  # pixels
THEORY = "batch statistics, in theory 1.2112 a layer"


def contrast_chart(contrast: Contrast, pairs: Sequence[Pair]) -> Chart:
    """Return the chart of the difference in test accuracy by seed, above the accuracies during training."""
    rows = [*_difference_rows(pairs), *_curve_rows(contrast, pairs)]
    base = alt.Chart(alt.NamedData(name="study"))
    title = f"points of accuracy on the test images, {contrast.candidate} minus {contrast.base}"
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=True))
    seeds = base.transform_filter(alt.datum.kind == "seed").mark_tick(thickness=2, opacity=0.6).encode(x=x)
    mean = base.transform_filter(alt.datum.kind == "mean")
    interval = mean.mark_rule(strokeWidth=3, color="#888888").encode(x=x, x2="high:Q", y=alt.value(34))
    middle = mean.mark_point(filled=True, size=90, opacity=1).encode(x=alt.X("middle:Q", title=title), y=alt.value(34))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 4], color="#888888")
    differences = (zero.encode(x="zero:Q") + seeds + interval + middle).properties(width=WIDTH, height=44)
    curves = (
        base.transform_filter(alt.datum.kind == "epoch")
        .mark_line(opacity=0.45)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("value:Q", title="accuracy on the validation images", axis=alt.Axis(format="%")),
            color=alt.Color("architecture:N", sort=[contrast.base, contrast.candidate]),
            detail="seed:N",
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    caption = f"{contrast.candidate} against {contrast.base}: {len(pairs)} seeds, the mean with its 95 % interval"
    return Chart(contrast.name, "Studies", caption, "study", rows, alt.vconcat(differences, curves))


def flow_chart(flows: Sequence[GradientFlow], *, theory: bool) -> Chart:
    """Return the chart of the mean absolute gradient at the input against depth, by family and seed.

    Args:
        flows: Gradient flows of several depths and both families.
        theory: Whether to draw the line of `BATCH_NORM_GROWTH` too.
    """
    rows: list[Row] = [
        {"family": flow.family, "layers": flow.layers()[0], "value": rounded(value), "seed": seed}
        for flow in flows
        for seed, value in zip(flow.seeds, flow.at_input(), strict=True)
    ]
    rows += _theory_rows([flow for flow in flows if flow.family == "plain"]) if theory else []
    base = alt.Chart(alt.NamedData(name="study"))
    x = alt.X("layers:Q", title="convolutions that the gradient passes")
    y = alt.Y(
        "value:Q",
        title="mean |gradient| at the input, logarithmic",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(format="~g", tickCount=6),
    )
    color = alt.Color("family:N", sort=["plain", "residual", THEORY], legend=alt.Legend(labelLimit=400))
    measured = base.transform_filter(alt.datum.family != THEORY)
    points = measured.mark_point(filled=True, size=40, opacity=0.6).encode(x=x, y=y, color=color, detail="seed:N")
    lines = measured.mark_line().encode(x=x, y=alt.Y("median(value):Q", scale=alt.Scale(type="log")), color=color)
    layers = [lines, points]
    if theory:
        predicted = base.transform_filter(alt.datum.family == THEORY).mark_line(strokeDash=[6, 4])
        layers.append(predicted.encode(x=x, y=y, color=color))
    title = "Gradient at the input of a stack against its depth, without and with shortcuts"
    drawing = alt.layer(*layers).properties(width=WIDTH, height=320)
    return Chart("gradient-flow", "Studies", title, "study", rows, drawing)


def _difference_rows(pairs: Sequence[Pair]) -> list[Row]:
    effect = accuracy_effect(pairs)
    rows: list[Row] = [
        {"kind": "seed", "seed": pair.seed, "value": rounded(POINTS * (pair.candidate.accuracy - pair.base.accuracy))}
        for pair in pairs
    ]
    ends = {"value": rounded(effect.low), "middle": rounded(effect.mean), "high": rounded(effect.high)}
    return [*rows, {"kind": "mean", **ends}]


def _curve_rows(contrast: Contrast, pairs: Sequence[Pair]) -> list[Row]:
    return [
        {"kind": "epoch", "architecture": name, "seed": pair.seed, "epoch": epoch + 1, "value": rounded(value)}
        for pair in pairs
        for name, side in ((contrast.base, pair.base), (contrast.candidate, pair.candidate))
        for epoch, value in enumerate(side.validation)
    ]


def _theory_rows(plain: Sequence[GradientFlow]) -> list[Row]:
    """Return the line of the theory through the shallowest stack: it predicts growth, not the size of gradients."""
    depths = [flow.layers()[0] for flow in plain]
    start = median(plain[depths.index(min(depths))].at_input())
    ends = {layers: start * BATCH_NORM_GROWTH ** (layers - min(depths)) for layers in (min(depths), max(depths))}
    return [{"family": THEORY, "layers": layers, "value": rounded(value), "seed": -1} for layers, value in ends.items()]
