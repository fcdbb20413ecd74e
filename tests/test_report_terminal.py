import math

import pytest
from documents import benchmark, document, finding, metric, side_by_side
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnperf.errors import RunFileError
from cnnperf.report.terminal import render


def text(*benchmarks, **facts):
    return "\n".join(render(document(*benchmarks, **facts)))


def line_with(words, *benchmarks, **facts):
    (line,) = [line for line in text(*benchmarks, **facts).splitlines() if words in line]
    return line


def test_the_machine_and_its_ceilings_come_first():
    lines = render(document(benchmark()))
    assert lines[0] == "machine: Example CPU, 2 CPUs, 2 threads, torch 2.13.0+cpu, default suite"
    assert lines[1] == "ceilings of cpu: copy 12.3 GB/s, matmul fp32 150 Gflop/s"


def test_a_gpu_is_named_with_its_versions():
    environment = {"gpu_model": "Example GPU", "gpu_driver": "600.1", "cuda": "13.0", "cudnn": 91000}
    assert "GPU: Example GPU, driver 600.1, CUDA 13.0, cuDNN 91000" in text(environment=environment)


def test_a_latency_stands_with_its_interval_rate_memory_and_ceiling():
    line = line_with("  forward ", benchmark(latency=1e-3, half=0.02))
    assert line.split() == ["forward", "1.00", "ms", "±2.0%", "64.0k", "12.5", "MiB", "43%"]


def test_the_heading_names_architecture_batch_and_parameters():
    assert "\nlenet5, batch 64, 62,006 parameters\n" in text(benchmark())


def test_eager_and_compiled_stand_side_by_side_with_their_ratio():
    engines = side_by_side(benchmark(latency=3e-3), benchmark(latency=2e-3, engine="compile"))
    line = line_with("  forward ", *engines)
    assert "3.00 ms ±2.0%" in line
    assert line.endswith("2.00 ms ±2.0%   1.50x [1.46, 1.54]")


def test_a_ratio_whose_interval_includes_one_is_unsure():
    shown = text(*side_by_side(benchmark(latency=1.01e-3), benchmark(latency=1e-3, engine="compile")))
    assert "  unsure [0.98, 1.04]" in shown


def test_an_interval_that_is_written_as_ending_at_one_is_unsure():
    shown = text(*side_by_side(benchmark(latency=1.0301e-3), benchmark(latency=1e-3, half=0.02198, engine="compile")))
    assert "  unsure [1.00, 1.06]" in shown


def test_a_run_of_compiled_cases_alone_has_its_own_table():
    shown = text(benchmark(engine="compile"))
    assert "compile" in shown
    assert "1.00 ms" in shown
    assert "eager" not in shown


def test_a_latency_with_a_finding_is_marked():
    assert "±2.0%!" in text(benchmark(findings=[finding()]))
    assert "!" not in text(benchmark())


def test_each_stored_format_has_its_own_table():
    shown = text(benchmark(), benchmark(precision="bf16", layout="channels_last"))
    assert "cpu: fp32, contiguous, 32 x 32 images" in shown
    assert "cpu: bf16, channels_last, 32 x 32 images" in shown


def test_an_engine_that_this_version_does_not_know_is_compared_too():
    shown = text(*(benchmark(engine=engine) for engine in ("eager", "compile", "cudagraphs")))
    assert "cudagraphs" in shown


def test_cuda_is_compared_with_the_cpu_at_the_same_batch():
    shown = text(
        benchmark(latency=0.1), benchmark(latency=0.005, device="cuda"), benchmark(device="cuda", batch=512)
    ).split("CUDA against CPU")[1]
    assert "cuda eager  ~20.0x [19.4, 20.6]" in shown
    assert "batch 512" not in shown


def test_the_throughput_of_a_full_queue_is_shown_where_it_was_measured():
    metrics = {"latency": metric("latency", 1e-3), "queued_throughput": metric("queued_throughput", 99e3)}
    line = line_with("  forward ", benchmark(device="cuda:0", metrics=metrics))
    assert "99.0k" in line


def test_what_se_costs_is_the_ratio_to_the_network_without():
    networks = side_by_side(benchmark("resnet18", 0.1), benchmark("se_resnet18", 0.11))
    shown = text(*networks).split("What it costs")[1]
    assert "Squeeze-and-Excitation: se_resnet18 / resnet18" in shown
    assert "cpu eager batch 64  1.10x [1.07, 1.13]" in shown


@pytest.mark.parametrize(
    ("candidate", "baseline"),
    [("residual_stack", "plain_stack"), ("lenet5", "lenet5_avg"), ("se_resnet18_fused", "se_resnet18")],
)
def test_every_question_is_answered_when_both_sides_were_measured(candidate, baseline):
    assert f": {candidate} / {baseline}" in text(benchmark(candidate), benchmark(baseline))
    assert f": {candidate} / {baseline}" not in text(benchmark(candidate))


def test_what_fusion_recovers_is_a_share_of_what_se_costs():
    cases = [
        benchmark(name, seconds, 0.001)
        for name, seconds in [("resnet18", 1.0), ("se_resnet18", 1.2), ("se_resnet18_fused", 1.1)]
    ]
    shown = text(*cases).split("that fusion recovers")[1]
    assert "  ~50% [49%, 51%]" in shown


def test_no_share_is_shown_of_a_cost_that_was_not_seen():
    names = ("resnet18", "se_resnet18", "se_resnet18_fused")
    assert "that fusion recovers" not in text(*(benchmark(name) for name in names))


def test_a_machine_without_cuda_says_so_in_one_line():
    skipped = [{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]
    line = line_with("no CUDA device", benchmark(), not_measured=skipped)
    assert line == "not measured: no CUDA device (all cases with device cuda)"


def test_cases_that_failed_alike_are_one_line():
    skipped = [
        {
            "axes": benchmark("resnet18", phase=phase, batch=512)["extra_info"]["axes"],
            "reason": f"out of memory: {size} GiB",
        }
        for phase, size in [("forward", 2.25), ("train", 2)]
    ]
    assert line_with("not measured", not_measured=skipped) == (
        "not measured: out of memory: 2.25 GiB (2 cases: resnet18; forward, train; cpu; eager; batch 512)"
    )


def test_hundreds_of_reasons_are_not_hundreds_of_lines():
    letters = "abcdefghijklmnopqrstuvwxyz"
    skipped = [{"axes": {"architecture": a + b}, "reason": f"{a}{b} failed"} for a in letters for b in letters]
    lines = render(document(not_measured=skipped))
    assert len(lines) < 30
    assert any("668 more reasons in the run file" in line for line in lines)


def test_a_kind_of_finding_is_told_once_with_its_worst_case():
    cases = [
        benchmark(name, findings=[finding(seen=f"the median's interval is ±{width}%, wanted ±2.0%")])
        for name, width in [("a", 6.1), ("b", 12.5), ("c", 9.0)]
    ]
    shown = text(*cases, benchmark("d")).split("Findings")[1]
    assert "spread: 3 of 4 cases; worst: b forward cpu eager batch 64: the median's interval is" in shown
    assert shown.count("smaller differences are not seen; raise --cnnperf-time") == 1


def test_of_few_rounds_the_fewest_are_the_worst():
    cases = [
        benchmark(name, findings=[finding("small sample", f"{groups} memory placements")])
        for name, groups in [("a", 5), ("b", 3)]
    ]
    assert "worst: b" in text(*cases)


def test_what_holds_for_the_whole_run_comes_before_the_cases():
    shown = text(benchmark(findings=[finding()]), findings=[finding("loaded machine", "load average 5.0")])
    assert shown.index("loaded machine: load average 5.0") < shown.index("spread: 1 of 1 case;")


def test_hundreds_of_findings_are_not_hundreds_of_lines():
    cases = [benchmark(f"n{number}", findings=[finding(f"kind {number}")]) for number in range(100)]
    shown = text(*cases).split("Findings")[1]
    assert len(shown.splitlines()) < 60
    assert "88 more kinds of findings in the run file" in shown


def test_a_clean_run_says_that_nothing_was_found():
    assert "Findings: none" in text(benchmark())


def test_the_time_inside_rounds_is_told_with_compilation_apart():
    facts = {"wall_seconds": 100.0, "compile_seconds": 20.0, "round_seconds": 57.6}
    shown = text(benchmark(), **facts)
    assert "rounds took 58 s of 1 min 20 s (compilation 20 s apart): 72% measured" in shown
    assert "under 60%" not in shown


def test_a_run_that_measured_little_of_its_time_says_so():
    assert "under 60%" in text(benchmark(), wall_seconds=100.0, compile_seconds=0.0, round_seconds=40.0)


def test_the_number_of_cases_and_rounds_is_told():
    assert "1 of 3 planned cases measured, 3 rounds each" in text(benchmark(), planned=3)


def test_a_run_without_a_case_is_told_as_such():
    lines = render(document())
    assert any("0 cases measured" in line for line in lines)
    assert not any("Findings" in line for line in lines)


def test_almost_nothing_is_enough():
    assert render({"benchmarks": []}) == ["", "0 cases measured"]


def test_a_newer_document_is_refused():
    with pytest.raises(RunFileError, match="upgrade"):
        render(document(schema=3))


@pytest.mark.parametrize(
    "metrics", [{}, {"latency": {"value": math.nan}}, {"latency": {"value": 0.0}}, {"flop": {"value": 1}}]
)
def test_a_case_without_a_latency_does_not_hide_the_others(metrics):
    shown = text(
        benchmark("resnet18", metrics=metrics), benchmark("se_resnet18"), benchmark("resnet18", engine="compile")
    )
    assert "se_resnet18, batch 64" in shown


numbers = st.one_of(st.none(), st.floats())


@given(
    st.lists(
        st.builds(
            lambda name, value, low, high, **axes: benchmark(
                name,
                metrics={
                    key: {"value": value, "low": low, "high": high}
                    for key in ("latency", "throughput", "peak_memory", "ceiling_fraction", "queued_throughput")
                },
                findings=[finding(seen=name)],
                **axes,
            ),
            st.one_of(st.text(), st.sampled_from(["resnet18", "se_resnet18", "se_resnet18_fused"])),
            numbers,
            numbers,
            numbers,
            phase=st.sampled_from(["forward", "train", "x" * 120]),
            device=st.sampled_from(["cpu", "cuda", "cuda:1"]),
            engine=st.sampled_from(["eager", "compile"]),
            batch=st.integers(0, 2**63 - 1),
        ),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_measured_is_told_in_one_hundred_columns(cases):
    lines = render(document(*cases))
    assert all(len(line) <= 100 and line.isprintable() for line in lines)


def test_the_whole_summary_reads_as_it_did():
    shares = {name: metric(name, 2 * 2**20) for name in ("parameter_memory", "activation_memory")}
    cases = [
        benchmark(name, latency * factor, engine=engine, phase=phase, batch=4)
        for name, latency in (("resnet18", 0.04), ("se_resnet18", 0.05), ("se_resnet18_fused", 0.042))
        for phase in ("forward", "train")
        for engine, factor in (("eager", 1.0), ("compile", 0.8))
    ]
    cases = side_by_side(*cases)
    cases += [benchmark("resnet18", 0.001, device="cuda", batch=4), benchmark("lenet5", 1e-3, findings=[finding()])]
    cases[0]["extra_info"]["metrics"] |= shares
    missing = [{"axes": {"architecture": "lenet5", "device": "cuda"}, "reason": "out of memory"}]
    shown = text(*cases, not_measured=missing, findings=[finding("load", "load average 3.5 on 2 CPUs")])
    assert shown == golden("terminal.txt", shown)


def test_training_on_several_processes_is_compared_in_its_own_table_alone():
    benchmarks = [benchmark(name, phase="train", world_size=2) for name in ("resnet18", "se_resnet18")]
    assert "What it costs" in text(*benchmarks)
    for one in benchmarks:
        one["extra_info"]["ranks"] = {"step": [[1e-3, 1e-3], [1e-3, 1e-3]]}
    assert "What it costs" not in text(*benchmarks)
