"""What a study leaves behind: samples, a table, a figure, and sentences that say what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cnnperf.extras import needs_extra
from cnnperf.output import write_whole
from cnnperf.report.drawing import Chart

with needs_extra("study", "a study"):
    from tabulate import tabulate


@dataclass(frozen=True)
class Outcome:
    """Results of a study.

    Attributes:
        name: Of the study, and of its files.
        answer: Sentences, the conclusion first.
        header: Of the table.
        rows: Of the table.
        samples: The tidy frame behind it.
        chart: The figure.
        where: Machine, device and versions on which it was found.
    """

    name: str
    answer: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    samples: pd.DataFrame
    chart: Chart
    where: str

    def table(self) -> str:
        """Return the table in Markdown."""
        return str(tabulate(self.rows, self.header, tablefmt="github", disable_numparse=True))

    def write(self, folder: Path) -> list[Path]:
        """Write samples, table and figure, each whole or not at all.

        Raises:
            CnnperfError: If a file cannot be written.
        """
        files: dict[str, str | bytes] = {
            "csv": self.samples.to_csv(index=False),
            "md": "\n".join([*(f"- {sentence}" for sentence in self.answer), "", self.table(), "", self.where, ""]),
            "svg": self.chart.svg(),
            "png": self.chart.png(),
        }
        for ending, content in files.items():
            write_whole(folder / f"{self.name}.{ending}", content)
        return [folder / f"{self.name}.{ending}" for ending in files]
