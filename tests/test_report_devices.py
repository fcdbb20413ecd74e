"""CUDA beside the CPU in the summary, in Markdown, in figures and on the page: golden texts and bad input."""

from needs import needs

needs("altair", "jinja2", "tabulate", "vl_convert")

import json
import math

import pytest
from documents import benchmark, document, finding, metric
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnperf.cli import main
from cnnperf.report.devices import TITLE, device_lines, device_markdown, device_section
from cnnperf.report.figures import figures
from cnnperf.report.html import page_of
from cnnperf.report.markdown import MOST_BYTES, run_markdown, runs_markdown
from cnnperf.report.terminal import render
from cnnperf.runs import parse_document
from cnnperf.testing import MadeDevices

SWEPT = (1, 2, 4, 8, 16, 64, 512)
MADE = MadeDevices(phases=("forward", "train"), batches=SWEPT, seconds_an_image=0.4e-3, gain=20)


def runs_of(*documents):
    return [(f"000{number}_a", parse_document(one)) for number, one in enumerate(documents, start=1)]


def shown(*documents):
    return "\n".join(device_lines(runs_of(*documents)))


def line_with(words, *documents):
    (line,) = [line for line in shown(*documents).splitlines() if words in line]
    return line


def flat(text):
    return " ".join(text.split())


def cuda(latency=1e-3, **how):
    return benchmark(latency=latency, device="cuda", **how)


def test_the_section_reads_as_it_did():
    text = shown(MADE.document())
    assert text == golden("devices.txt", text)


def test_the_section_of_several_runs_reads_as_it_did():
    other = MadeDevices(devices=("cpu",), cpu="Other CPU", batches=(64,))
    text = shown(other.document(), MadeDevices(devices=("cuda", "cuda:1"), batches=(64,)).document())
    assert text == golden("devices-of-runs.txt", text)


def test_the_markdown_reads_as_it_did():
    text = device_markdown(runs_of(MADE.document()))
    assert text == golden("devices.md", text)


@pytest.mark.parametrize("made", [MADE, MadeDevices(devices=("cuda",)), MadeDevices(devices=("cuda:0", "cuda:1"))])
def test_the_summary_has_the_section_once_and_in_one_hundred_columns(made):
    lines = render(made.document())
    assert lines.count(TITLE) == 1
    assert all(len(line) <= 100 for line in lines)


def test_a_run_without_cuda_has_no_section_and_the_one_line():
    missing = [{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]
    text = "\n".join(render(document(benchmark(), not_measured=missing)))
    assert TITLE not in text
    assert "not measured: no CUDA device (all cases with device cuda)" in text
    assert device_markdown(runs_of(document(benchmark()))) == ""


def test_the_header_names_what_decides_how_fast_a_device_is():
    text = flat(shown(MadeDevices().document()))
    assert (
        "GPU Made GPU, driver 600.1, power limit 700 W, cuDNN 91002, cudnn.benchmark off, SM clock under load "
        "1.75 GHz; torch 2.11.0, CPU Made CPU, CPU threads 16"
    ) in text


def test_what_an_older_run_does_not_tell_is_said_and_no_zero():
    text = flat(shown(document(cuda(metrics={"latency": metric("latency", 1e-3, 0.02, 30)}))))
    assert (
        "GPU not recorded, driver not recorded, power limit not recorded, cuDNN not recorded, cudnn.benchmark not "
        "recorded, SM clock under load not recorded; torch 2.13.0+cpu, CPU Example CPU, CPU threads 2"
    ) in text
    assert (
        "not measured on CUDA in any case: event, device, queued, images/s, memory, busy, SM clock, power, energy, "
        "pinned, pageable"
    ) in text
    row = line_with("strict fp32  ", document(cuda(metrics={"latency": metric("latency", 1e-3, 0.02, 30)})))
    assert row.split() == ["strict", "fp32", "64", "30", "1.00", "ms", "±2.0%"]


@pytest.mark.parametrize("flag", [(True, "on"), (False, "off"), ("on", "on"), (None, "not recorded")], ids=str)
def test_cudnn_benchmark_is_named(flag):
    given, told = flag
    assert f"cudnn.benchmark {told}" in flat(shown(document(cuda(), environment={"cudnn_benchmark": given})))


def test_a_metric_that_one_row_lacks_is_a_dash_there():
    with_device = {"latency": metric("latency", 1e-3), "device_latency": metric("latency", 5e-4)}
    text = shown(document(cuda(metrics=with_device), cuda(precision="conv_tf32")))
    (line,) = [line for line in text.splitlines() if line.startswith("  PyTorch's default") and "ms" in line]
    assert line.split()[-2] == "-"
    assert "500 µs" in text


def test_a_launch_bound_row_is_marked_and_says_what_was_seen():
    text = shown(MadeDevices(batches=(4,)).document())
    assert "  strict fp32!  " in text
    assert "  strict fp32: launch-bound: the device computed during 22% of the call" in text
    assert "40.0x [38.9, 41.1]!" in text


def test_a_ratio_whose_cpu_case_is_doubtful_is_marked():
    text = shown(document(benchmark(findings=[finding()]), cuda(1e-5)))
    assert "100x [97.2, 103]!" in text
    assert "the CPU's side of the ratio: spread" in text


def test_practice_names_its_case():
    assert "  practice: amp channels_last cudagraphs, batch 64, the fastest of 2 cases" in shown(
        MadeDevices().document()
    )


def test_only_cuda_has_no_ratio_and_no_crossover():
    text = shown(MadeDevices(devices=("cuda",)).document())
    assert "CPU/CUDA" not in text.split("All numbers are measured")[0]
    assert "crossover" not in text


def test_a_crossover_has_its_interval():
    made = MadeDevices(batches=(1, 2, 4, 8, 16, 64), seconds_an_image=0.25e-3, forms=(("fp32", "contiguous", "eager"),))
    assert "crossover: eager, cuda against cpu: faster from batch 4 [3, 5] on" in shown(made.document())


def test_two_batches_are_too_few_for_a_crossover_and_that_is_said():
    text = shown(MadeDevices(batches=(4, 64)).document())
    assert "crossover batch: needs three batches on both devices, as `cnnperf sweep` measures them" in text


def test_a_best_batch_says_whether_a_larger_one_may_be_better():
    text = shown(MadeDevices(batches=(4, 64, 512), forms=(("fp32", "contiguous", "eager"),)).document())
    table = text.split("Each at its own best batch")[1]
    assert table.splitlines()[3].endswith("512     19.9k ±2.0%  4 to 512, at the edge")
    assert table.splitlines()[4].endswith("  4       100 ±2.0%               4 to 512")


def test_a_single_batch_is_no_choice_of_batches():
    assert "best batch" not in shown(MadeDevices(batches=(64,)).document())


def test_rows_of_two_machines_stand_together_without_a_ratio():
    ours, theirs = MadeDevices(devices=("cuda",)), MadeDevices(devices=("cpu",), cpu="Other CPU")
    text = shown(ours.document(), theirs.document())
    assert "[1] strict fp32: not comparable: measured on different machines" in text
    assert "[2] 0002_a: torch 2.11.0, CPU Other CPU" in text
    assert "x [" not in text


def test_several_cuda_devices_are_said_to_be_perhaps_of_two_models():
    text = flat(shown(MadeDevices(devices=("cuda", "cuda:1")).document()))
    assert "the run names its first GPU only, other devices may be of another model" in text


def test_a_row_that_could_not_be_measured_says_why():
    axes = cuda(precision="amp", layout="channels_last")["extra_info"]["axes"]
    text = flat(shown(document(cuda(), not_measured=[{"axes": axes, "reason": "out of memory"}])))
    assert "cuda practice (tf32 or amp, channels_last, any engine): not measured: out of memory" in text
    assert "cuda PyTorch's default (conv_tf32, contiguous, eager): no such case was measured" in text


def test_a_precision_without_a_row_is_named():
    text = shown(document(cuda(), cuda(precision="fp8"), cuda(precision="bf16")))
    assert "2 CUDA cases of forms without a row: fp8 contiguous eager, bf16 contiguous eager" in text


def test_a_shard_says_that_it_is_one():
    assert "this is shard 1/2: `cnnperf merge` joins all" in flat(shown(document(cuda(), shard="1/2")))


def test_findings_about_the_whole_run_stand_in_the_header():
    text = flat(shown(document(cuda(), findings=[finding("shared device"), finding("loaded machine")])))
    assert "findings about the whole run: shared device, loaded machine" in text


def test_measured_and_expected_are_kept_apart():
    assert "All numbers are measured; none is an expectation." in shown(MADE.document())


@pytest.mark.parametrize("odd", [None, math.nan, math.inf, -math.inf, 0.0, -1.0, 1e308, 5e-324], ids=str)
@pytest.mark.parametrize("end", ["value", "low", "high"])
def test_numbers_that_no_measurement_gives_are_a_cell_and_no_traceback(odd, end):
    document_ = MadeDevices().document()
    for entry in document_["benchmarks"]:
        for name, value in entry["extra_info"]["metrics"].items():
            if name != "latency":
                value[end] = odd
    runs = runs_of(document_)
    lines = device_lines(runs)
    assert all(len(line) <= 100 for line in lines)
    assert not any(word in " ".join(lines) for word in ("nan", "inf ", "None", " 0 s", " 0 W"))
    assert device_markdown(runs)


numbers = st.one_of(st.none(), st.floats())


@given(
    st.lists(
        st.builds(
            lambda name, numbers, **axes: benchmark(
                name,
                metrics={
                    key: dict(zip(("value", "low", "high"), three, strict=True)) for key, three in numbers.items()
                },
                **axes,
            ),
            st.sampled_from(["resnet18", "n" * 120, "a\x1b[31m|b\n"]),
            st.dictionaries(
                st.sampled_from(
                    ["latency", "event_latency", "device_latency", "throughput", "queued_throughput", "copy_pinned"]
                ),
                st.tuples(numbers, numbers, numbers),
            ),
            device=st.sampled_from(["cpu", "cuda", "cuda:1", "mps"]),
            engine=st.sampled_from(["eager", "compile", "cudagraphs"]),
            precision=st.sampled_from(["fp32", "conv_tf32", "tf32", "amp", "fp8"]),
            layout=st.sampled_from(["contiguous", "channels_last"]),
            batch=st.integers(0, 2**63 - 1),
        ),
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_measured_fits_and_moves_no_cursor(cases):
    runs = runs_of(document(*cases))
    assert all(len(line) <= 100 and line.isprintable() for line in device_lines(runs))
    tables = [line for line in device_markdown(runs).splitlines() if line.startswith("|")]
    assert all("\x1b" not in line or line.count("|") for line in tables)


def test_the_markdown_of_a_run_has_the_tables_and_folds_the_notes():
    text = run_markdown("0001_a", parse_document(MADE.document()))
    assert f"#### {TITLE}" in text
    assert "<details><summary>Notes on the devices</summary>" in text
    assert "faster from batch" in text.partition("<summary>Notes on the devices</summary>")[2]


def test_hundreds_of_networks_fit_into_a_comment():
    made = MadeDevices(architectures=tuple(f"network{number}" for number in range(400)), batches=(64,))
    text = run_markdown("0001_a", parse_document(made.document()))
    assert len(text.encode()) <= MOST_BYTES
    assert "more rows are left out" in text


def test_the_markdown_of_several_runs_ends_with_their_devices_side_by_side():
    runs = runs_of(MadeDevices(devices=("cuda",)).document(), MadeDevices(devices=("cpu",), cpu="B").document())
    text = runs_markdown(runs)
    assert text.index("measured on cuda") < text.index("measured on cpu") < text.index("not comparable")
    assert runs_markdown(runs[:1]) == run_markdown(*runs[0])


def test_figures_have_the_devices_of_all_runs_once_at_their_end():
    runs = runs_of(MadeDevices().document(), MadeDevices(devices=("cpu",), cpu="Other CPU").document())
    text = figures(runs)
    assert text.count(f"**{TITLE}**") == 1
    assert "\\[2\\] CPU compile" in text
    assert figures(runs[1:]).count(TITLE) == 0


def test_the_page_has_the_tables():
    page = page_of("0001_a", parse_document(MADE.document()))
    assert "CUDA and CPU, call by call" in page
    assert "<caption>Times of one call</caption>" in page
    assert "CUDA and CPU, call by call" not in page_of("0001_a", parse_document(document(benchmark())))


def test_a_section_has_as_many_cells_as_names_in_each_row():
    section = device_section(runs_of(MADE.document()))
    assert len(section.tables) == 3
    assert all(len(row) == len(header) for _, header, rows in section.tables for row in rows)


@pytest.fixture
def folder(tmp_path):
    for name, made in (("0001_cuda", MadeDevices(devices=("cuda",))), ("0002_cpu", MadeDevices(devices=("cpu",)))):
        (tmp_path / f"{name}.json").write_text(json.dumps(made.document()))
    return tmp_path


def test_show_of_several_files_ends_with_their_rows_side_by_side(folder, capsys):
    assert main(["show", str(folder)]) == 0
    last = capsys.readouterr().out.rpartition(TITLE)[2]
    assert "  [1] strict fp32" in last
    assert "  [2] CPU eager" in last
    assert "[1] strict fp32: not comparable: measured on different machines" in last


def test_report_of_several_files_makes_markdown_and_no_page(folder, capsys):
    assert main(["report", str(folder), "--md", str(folder / "all.md")]) == 0
    assert "not comparable" in (folder / "all.md").read_text()
    assert main(["report", str(folder), "--html", str(folder / "all.html")]) == 2
    assert "names 2 runs, but one is needed" in capsys.readouterr().err


def test_of_many_networks_a_terminal_gets_one_table_and_where_the_rest_is():
    names = ("lenet5", "plain_stack", "resnet18")
    made = MadeDevices(architectures=names, phases=("forward", "train"), batches=SWEPT)
    lines = device_lines([("", parse_document(made.document()))])
    assert len(lines) < 60
    assert max(map(len, lines)) <= 100
    text = flat("\n".join(lines))
    assert "best batches, crossovers, copies and notes of all: `cnnperf report --md FILE`" in text
    (header,) = [line for line in lines if line.split()[:2] == ["batch", "n"]]
    assert header.split()[2:] == ["wall", "device", "images/s", "energy", "CPU/CUDA"]
