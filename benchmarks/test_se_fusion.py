"""Forms of Squeeze-and-Excitation side by side on the CPU: eager, torch.compile of the textbook formula, and ours.

Not part of `pytest benchmarks`, because compiling every cell takes longer than that whole suite: name this file to run
it. The suite `full` adds bf16 and the stages of ResNet-50 on 224 x 224 images.
"""

import pytest

from cnnperf.plugin import OPTIONS_KEY, Replay

REPLAY = Replay()
RESNET18 = [(32, 64, 32, 32), (32, 128, 16, 16), (32, 256, 8, 8), (32, 512, 4, 4), (128, 64, 32, 32)]
RESNET50 = [(8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14), (8, 2048, 7, 7)]
pytestmark = pytest.mark.benchmark(timer=REPLAY)


def pytest_generate_tests(metafunc):
    from cnnperf.measure.parts import PARTS, Cell

    full = metafunc.config.stash[OPTIONS_KEY].suite == "full"
    cells = [
        Cell(part, trains, shape, layout, precision)
        for part in PARTS
        for trains in (True, False)
        for precision in ("fp32", "bf16")[: 1 + full]
        for shape in RESNET18 + RESNET50 * full
        for layout in ("contiguous", "channels_last")
    ]
    metafunc.parametrize("cell", cells, ids=Cell.id)


def test_se_fusion(cell, benchmark, fusion_records, request):
    from cnnperf.measure.parts import measure_cell

    together, record = measure_cell(cell, request.config.stash[OPTIONS_KEY].schedule())
    seconds = [second for group in together.groups["fused"] for second in group]
    REPLAY.load(seconds)
    benchmark.extra_info["cnnperf_fusion"] = record
    benchmark.pedantic(lambda: None, rounds=len(seconds))
    fusion_records.append(record)
