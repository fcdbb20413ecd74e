"""The view of a run: everything that terminal, Markdown, page and pictures show of it, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cnnperf.records.case import Case
from cnnperf.records.run import CaseRecord, Run
from cnnperf.report.doubts import Doubt, doubts, not_measured
from cnnperf.report.rows import Row, case_rows, memory_rows, ratio_rows
from cnnperf.report.sweeps import Answer, answers_of
from cnnperf.runs.forms import FormRow, form_rows
from cnnperf.runs.pairs import Pair, Share, pairs_of, shares_of
from cnnperf.runs.ratios import Ratio, Ratios
from cnnperf.runs.run_ratios import ratios_of_run


@dataclass(frozen=True)
class RunView:
    """A run, analysed.

    Attributes:
        run: Record of the run.
        name: Name of the run; empty for one that has none yet.
    """

    run: Run
    name: str = ""

    @cached_property
    def cases(self) -> Mapping[Case, CaseRecord]:
        """Records of the measured cases but those of `forms`."""
        shown = {record.case for row in self.forms for record in row.forms.values()}
        return {case: record for case, record in self._all.items() if case not in shown}

    @cached_property
    def forms(self) -> list[FormRow]:
        """Parts of networks with their forms."""
        return form_rows(self._all, self.ratios)

    @cached_property
    def ratios(self) -> Ratios:
        """All ratios of the run."""
        return ratios_of_run(self.run)

    @cached_property
    def shown_ratios(self) -> list[Ratio]:
        """Ratios that a report shows: those between networks, and those between forms of a part."""
        return [*(pair.ratio for pair in self.pairs), *(ratio for row in self.forms for ratio in row.shown_ratios())]

    @cached_property
    def _all(self) -> Mapping[Case, CaseRecord]:
        return {record.case: record for record in self.run.cases}

    @cached_property
    def single(self) -> Mapping[Case, CaseRecord]:
        """Records of the cases that one process runs."""
        return {case: record for case, record in self.cases.items() if not record.ranks}

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Ratios between cases."""
        return pairs_of(self.cases, self.ratios)

    @cached_property
    def single_pairs(self) -> tuple[Pair, ...]:
        """Ratios between cases that one process runs."""
        return tuple(pair for pair in self.pairs if pair.subject in self.single)

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """Shares of costs that improvements recover."""
        return shares_of(self.cases)

    @cached_property
    def case_rows(self) -> list[Row]:
        """Rows of the cases."""
        return case_rows(self.cases)

    @cached_property
    def memory_rows(self) -> list[Row]:
        """Rows of the cases and parts of their memory."""
        return memory_rows(self.cases)

    @cached_property
    def ratio_rows(self) -> list[Row]:
        """Rows of the ratios and shares."""
        return ratio_rows(self.cases, self.pairs, self.shares)

    @cached_property
    def sweeps(self) -> list[Answer]:
        """Results of the sweeps."""
        return answers_of(self.run)

    @cached_property
    def doubts(self) -> list[Doubt]:
        """Findings by kind."""
        return doubts(self.run)

    @cached_property
    def not_measured(self) -> list[str]:
        """Sentences about the cases that were not measured."""
        return not_measured(self.run)

    def ratio(self, numerator: Case, denominator: Case) -> Ratio | None:
        """Return the ratio of two cases; None where they were not compared."""
        return self.ratios.get((numerator, denominator))
