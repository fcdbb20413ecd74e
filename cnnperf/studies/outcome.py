"""The outcome of a study: its answer in sentences, a table, a figure and the samples."""

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
        name: Name of the study and of its files.
        answer: Sentences, the conclusion first.
        header: Header of the table.
        rows: Rows of the table.
        samples: Tidy frame of all samples.
        chart: The figure.
        where: Machine, device and versions.
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
        """Write samples, table and figure, each atomically, and return the paths.

        Raises:
            CnnperfError: If a file cannot be written.
        """
        files: dict[str, str | bytes] = {
            "csv": self.samples.to_csv(index=False),
            "md": "\n".join([*(f"- {sentence}" for sentence in self.answer), "", self.table(), "", self.where, ""]),
            "svg": self.chart.svg(),
            "png": self.chart.png(),
        }
        paths = []
        for suffix, content in files.items():
            paths.append(folder / f"{self.name}.{suffix}")
            write_whole(paths[-1], content)
        return paths
