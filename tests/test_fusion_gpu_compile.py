"""The Triton kernels are accepted by the compiler for real GPUs; nothing is run.

What ptxas says of registers and stack, and what the PTX says of loads and of the order of memory operations.
"""

import re
import subprocess
import sys

import pytest
import torch
from fusion_gpu import EPS, KINDS, Recorder, excitation_of, frozen, tail_tensors

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux alone")]


class Target:
    """Stand in for Triton's driver: a GPU of some architecture that nothing is run on."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self):
        return self.architecture

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def target(monkeypatch, request, tmp_path):
    import triton

    assert not triton.knobs.runtime.interpret, "unset TRITON_INTERPRET: these tests compile kernels"
    monkeypatch.setattr(triton.runtime.driver, "_active", Target(getattr(request, "param", 90)))
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


def record_tail(shape, dtype, layout, small=torch.float32):
    from cnnperf.fusion.triton import tail as gpu_tail
    from cnnperf.fusion.triton.tail import Running

    launches = Recorder()
    x, shortcut, parameters, grad = tail_tensors(shape, dtype, layout, small=small)
    running = Running(torch.zeros(shape[1]), torch.ones(shape[1]), torch.tensor(0), 0.1)
    kept = gpu_tail.tail_forward(x, shortcut, parameters, EPS, running=running, launch=launches)
    gpu_tail.tail_backward(grad, x, kept, parameters, EPS, launch=launches)
    return launches


def record_others(shape, dtype, layout, kind=KINDS[1]):
    from cnnperf.fusion.triton import gate, inference

    launches = Recorder()
    x, shortcut, parameters, grad = tail_tensors(shape, dtype, layout)
    norm, weights = frozen(shape[1]), parameters[2:]
    inference.tail_inference(x, shortcut, norm, *weights, launch=launches)
    inference.tail_scaling(x, None, norm, *weights, launch=launches)
    excitation = excitation_of(shape[1], *kind)
    excited = gate.se_forward(x, excitation, launches)
    gate.se_backward(grad, x, excited, excitation, launches)
    return launches


def compiled(launch):
    kernel, programs, arguments, constants = launch
    return kernel.warmup(*arguments, grid=(programs,), **constants)


@pytest.mark.parametrize(
    ("target", "shape", "dtype", "layout"),
    [
        (80, (36, 64, 32, 32), torch.float32, "contiguous"),  # swept, in vectors
        (90, (1, 256, 8, 8), torch.bfloat16, "channels_last"),  # held, as much as there may be
        (90, (2, 128, 7, 7), torch.float16, "contiguous"),  # held, in single numbers
        (90, (1, 1, 1, 1), torch.float32, "contiguous"),  # Triton takes a size of 1 for a constant
        (90, (32, 64, 32, 32), torch.float32, "channels_last"),
        (100, (64, 128, 16, 16), torch.bfloat16, "channels_last"),
        (90, (8, 2048, 7, 7), torch.float32, "contiguous"),  # products by rows
    ],
    indirect=["target"],
)
def test_every_kernel_compiles_for_a_gpu_without_spilling_much(target, tmp_path, shape, dtype, layout):
    for launch in record_tail(shape, dtype, layout) + record_others(shape, dtype, layout):
        assert usage(compiled(launch), tmp_path)["STACK"] <= 128, launch[0].__name__


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_two_programs_of_a_training_tail_fit_on_a_processor(target, tmp_path, layout):
    for launch in record_tail((64, 256, 16, 16), torch.float32, layout):
        threads, used = 32 * launch[3].get("num_warps", 4), usage(compiled(launch), tmp_path)
        assert used["STACK"] == 0, launch[0].__name__
        assert used["REG"] * threads <= 65536 // 2, launch[0].__name__


def usage(binary, folder):
    """Return registers and bytes of stack of a thread, and what else cuobjdump says."""
    import triton

    path = folder / "kernel.cubin"
    path.write_bytes(binary.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK):(\d+)", text)}


SWEEPS = ("sum_moments", "rectify_map", "pass_gradient", "blend_maps")


@pytest.mark.parametrize(("dtype", "vector"), [(torch.float32, "v4.b32"), (torch.bfloat16, "v2.b32")])
def test_rows_that_are_multiples_of_four_are_read_four_numbers_at_a_time(target, dtype, vector):
    for launch in record_tail((4, 64, 14, 14), dtype, "contiguous"):
        if launch[0].__name__ in SWEEPS:
            loads = re.findall(r"ld\.global\S*", compiled(launch).asm["ptx"])
            assert any(load.endswith(vector) for load in loads)
            single = [load for load in loads if load.endswith("b16")]
            assert dtype == torch.float32 or len(single) <= 8 * (launch[0].__name__ == "sum_moments") + 8


@pytest.mark.parametrize(("kernel", "where"), [("sum_moments", 0), ("pass_gradient", 3)])
def test_a_barrier_is_on_both_sides_of_the_count_of_arrivals(target, kernel, where):
    launch = record_tail((32, 64, 32, 32), torch.float32, "channels_last")[where]
    assert launch[0].__name__ == kernel
    text = compiled(launch).asm["ptx"]
    order = re.findall(r"bar\.sync|atom\.\S+|ld\.global\.cg|st\.global", text)
    (at,) = (number for number, one in enumerate(order) if one.startswith("atom"))
    assert order[at] == "atom.global.gpu.acq_rel.add.u32"
    assert order[at - 1] == order[at + 1] == "bar.sync"
    assert "st.global" in order[: at - 1]
    # What other programs wrote is read past L1.
    assert "ld.global.cg" not in order[:at]
    assert "ld.global.cg" in order[at:]


def test_products_are_in_fp32_and_not_in_tf32(target):
    launch = record_tail((32, 512, 4, 4), torch.float32, "channels_last")[4]
    assert launch[0].__name__ == "find_coefficients"
    assert "mma" not in compiled(launch).asm["ptx"]


def test_every_kernel_is_among_those_that_are_compiled(monkeypatch):
    from cnnperf.fusion.triton import (
        coefficients,
        gradients,
        kernels,
        normalized,
        onchip,
        plan,
        pooled,
        rows,
        statistics,
    )

    launches = []
    for concluded in (0, plan.CONCLUDED):
        monkeypatch.setattr(plan, "CONCLUDED", concluded)
        plan.plan.cache_clear()
        launches += record_tail((36, 8, 2, 2), torch.float32, "contiguous")
        launches += record_others((36, 8, 2, 2), torch.float32, "contiguous")
    launches += record_others((1, 64, 32, 32), torch.float32, "contiguous")
    launches += record_tail((1, 1024, 7, 7), torch.float32, "contiguous")
    launches += record_others((1, 1024, 7, 7), torch.float32, "contiguous")
    plan.plan.cache_clear()
    called = {"place_of", "tile_at", "store_sums", "load_channels", "load_pixel", "arrives_last", "values_of"}
    called |= {"mean_of_parts", "write_batch_moments", "write_gate_gradients", "write_norm_gradients"}
    called |= {"write_product", "write_column_sums", "block_at", "multiply_rows"}
    written = {
        name
        for module in (kernels, onchip, pooled, statistics, normalized, gradients, coefficients, rows)
        for name, one in vars(module).items()
        if getattr(one, "__module__", None) == module.__name__
    }
    assert {kernel.__name__ for kernel, *_ in launches} == written - called
