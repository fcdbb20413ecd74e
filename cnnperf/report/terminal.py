"""The summary of one run for a terminal: results first, then findings."""

from __future__ import annotations

from collections.abc import Mapping

from cnnperf.records.reading import parse_document
from cnnperf.records.run import Run
from cnnperf.report.comparisons import cost_comparison, device_comparison
from cnnperf.report.devices import device_lines
from cnnperf.report.doubts import doubt_lines, not_measured_lines
from cnnperf.report.fusion import fusion_lines
from cnnperf.report.latency import latency_tables
from cnnperf.report.layout import WIDTH, printable, shorten
from cnnperf.report.machine import effort_lines, machine_lines
from cnnperf.report.notes import note_lines, ratio_notes
from cnnperf.report.scaling import scaling_lines
from cnnperf.report.sweeps import sweep_lines
from cnnperf.report.view import RunView


def render(document: Mapping[str, object]) -> list[str]:
    """Return the summary of a run-file document, which may hold no benchmarks.

    Args:
        document: JSON of a run file. Of a run in progress, `benchmarks` and `cnnperf` are enough.

    Returns:
        Lines of plain text, each of at most `WIDTH` columns.

    Raises:
        RunFileError: If the document is damaged or from a newer version.
    """
    return render_run(parse_document(document))


def render_run(run: Run) -> list[str]:
    """Return the summary of a parsed run."""
    view = RunView(run)
    lines = [
        *machine_lines(run),
        *latency_tables(view),
        *note_lines(ratio_notes(view)),
        *device_comparison(view),
        *device_lines([("", run)]),
        *cost_comparison(view),
        *scaling_lines(run),
        *sweep_lines(run),
        *fusion_lines(view.forms),
        *not_measured_lines(run),
        *doubt_lines(run),
        *effort_lines(run),
    ]
    return [shorten(printable(line), WIDTH) for line in lines]
