"""The forms of a part of a network, as the fusion benchmark measures them: one row a part, phase and shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.runs.pairs import case_pairs_of
from cnnperf.runs.ratios import Ratio, Ratios

EAGER, COMPILE, FUSED, FUSED_COMPILE, PLAIN, PLAIN_COMPILE, COPY = (
    "eager", "compile", "fused", "fused-compile", "plain", "plain-compile", "copy",
)  # fmt: skip
OWN = frozenset({EAGER, COMPILE, FUSED, FUSED_COMPILE, PLAIN, PLAIN_COMPILE, COPY})
"""Forms that are not of another library."""

NETWORK = "network"
NETWORKS = {"se_resnet18": "part:network", "se_resnet18_fused": "fused:part:network", "resnet18": "part:network_plain"}
"""Networks that stand for the forms of a part of their own."""

COST_OF_SE = ((EAGER, PLAIN), (COMPILE, PLAIN_COMPILE), (FUSED, PLAIN), (FUSED_COMPILE, PLAIN_COMPILE))
"""Forms of a part with SE, and the form without SE that runs in the same way."""

FLOOR_PASSES = {("se", "forward"): 2.0, ("se", "train"): 5.0, ("tail", "forward"): 3.0, ("tail", "train"): 10.0}
"""Passes over a map that a part needs at least. Inference of the tail reads x again for the scaling, from cache where a
sample fits there. Convolutions do not wait for memory, so that blocks have no such floor."""

MASK_BYTES = 2  # of the tail in training: written once, read once
ITEM_BYTES = {"bf16": 2, "fp16": 2}
"""Bytes of a number of a map; 4 in other precisions, those of autocast included, which keep maps in fp32 around SE."""


@dataclass(frozen=True)
class FormRow:
    """A part at one shape, with all its forms.

    Attributes:
        part: `se`, `tail`, `block` or `network`.
        case: A case of the row, without its architecture and engine.
        replayed: Whether calls were replayed and timed on a GPU.
        forms: Record by form.
        ratios: Ratios of the run.
    """

    part: str
    case: Case
    replayed: bool
    forms: Mapping[str, CaseRecord]
    ratios: Ratios = field(default_factory=dict, compare=False)

    def compares_forms(self) -> bool:
        """Return whether the run holds the paired ratio of the compiled textbook form to the fused one."""
        both = self.forms.keys() >= {COMPILE, FUSED}
        return both and self.forms[COMPILE].over(self.forms[FUSED]) is not None

    def seconds(self, form: str) -> Value | None:
        """Return the median seconds of one call, None without the form."""
        return self.forms[form].values.get("latency") if form in self.forms else None

    def ratio(self, numerator: str, denominator: str) -> Ratio | None:
        """Return the ratio of two forms, None where one is missing."""
        if not self.forms.keys() >= {numerator, denominator}:
            return None
        return self.ratios.get((self.forms[numerator].case, self.forms[denominator].case))

    def shown_ratios(self) -> list[Ratio]:
        """Return the ratios between forms that the fusion benchmark shows."""
        cases = {form: record.case for form, record in self.forms.items()}
        return [self.ratios[pair] for pair in _shown_pairs(cases) if pair in self.ratios]

    @property
    def floor_passes(self) -> float | None:
        """Passes over a map that the part needs at least, or None."""
        passes = FLOOR_PASSES.get((self.part, self.case.phase))
        masked = (self.part, self.case.phase) == ("tail", "train")
        masks = MASK_BYTES / ITEM_BYTES.get(self.case.precision, 4) if masked else 0.0
        return None if passes is None else passes + masks

    def over_floor(self) -> Value | None:
        """Return the ratio of the fused form to its least passes at the speed of the copy, or None."""
        ratio, passes = self.ratio(FUSED, COPY), self.floor_passes
        return None if ratio is None or passes is None else ratio.value.scaled(2 / passes)

    def floor_seconds(self) -> Value | None:
        """Return the seconds of the least passes at the speed of the copy, or None."""
        copy, passes = self.seconds(COPY), self.floor_passes
        return None if copy is None or passes is None else copy.scaled(passes / 2)


def form_of(case: Case) -> tuple[str, str] | None:
    """Return part and form of a case: `part:se` compiled is `se` and `compile`; None where it is neither."""
    if not case.of_part and case.architecture not in NETWORKS:
        return None
    name = NETWORKS.get(case.architecture, case.architecture)
    fused = name.startswith("fused:")
    part, _, variant = name.rpartition(":")[2].partition("_")
    engine = ENGINES.get(case.engine)
    compiled = engine is not None and engine.compile_options is not None
    plain = FUSED if fused else variant
    if not plain:
        return part, COMPILE if compiled else EAGER
    return part, f"{plain}-compile" if compiled else plain


def form_rows(cases: Mapping[Case, CaseRecord], ratios: Ratios) -> list[FormRow]:
    """Return the rows of a run, in the order of measuring: all parts, and networks whose forms were compared."""
    rows = [
        FormRow(part, case, replayed, {form: cases[each] for form, each in forms.items()}, ratios)
        for (part, case, replayed), forms in _places(cases).items()
    ]
    return [row for row in rows if row.part != NETWORK or row.compares_forms()]


def compared_forms(cases: Iterable[Case]) -> Iterator[tuple[Case, Case]]:
    """Yield numerator and denominator of each ratio between forms of parts that the fusion benchmark shows."""
    for forms in _places(case for case in cases if case.of_part).values():
        yield from _shown_pairs(forms)


def compared_cases(cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Return numerator and denominator of every ratio that is shown of some cases."""
    networks = [(two.numerator, two.denominator) for two in case_pairs_of(cases)]
    return [*networks, *compared_forms(cases)]


def compared_records(cases: Mapping[Case, CaseRecord]) -> list[tuple[Case, Case]]:
    """Return numerator and denominator of every ratio that is shown of a run, also between forms of a network."""
    networks = {case: record for case, record in cases.items() if not case.of_part}
    rows = [row for row in form_rows(networks, {}) if row.part == NETWORK]
    forms = [{form: record.case for form, record in row.forms.items()} for row in rows]
    return [*compared_cases(list(cases)), *(pair for each in forms for pair in _shown_pairs(each))]


def _shown_pairs(forms: Mapping[str, Case]) -> Iterator[tuple[Case, Case]]:
    """Yield numerator and denominator of each ratio between the forms of a row."""
    others = [form for form in forms if form not in OWN]
    pairs = [(form, FUSED) for form in (EAGER, COMPILE, *others)]
    pairs += [(FUSED, COPY), (COMPILE, FUSED_COMPILE), *COST_OF_SE]
    yield from ((forms[above], forms[below]) for above, below in pairs if above in forms and below in forms)


def _places(cases: Iterable[Case]) -> dict[tuple[str, Case, bool], dict[str, Case]]:
    """Return the case of each form by part, by what the forms of a row share, and by whether they were replayed."""
    places: dict[tuple[str, Case, bool], dict[str, Case]] = {}
    for case in cases:
        if (found := form_of(case)) is not None:
            part, form = found
            engine = ENGINES.get(case.engine)
            replayed = engine is not None and engine.rotates
            places.setdefault((part, case.replace(architecture="", engine="eager"), replayed), {})[form] = case
    return places
