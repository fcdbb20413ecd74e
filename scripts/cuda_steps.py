"""The steps of scripts/cuda.py in their order, as a table; {python}, {plugin}, {out} and {gpu_tests} are filled in."""

from __future__ import annotations

from dataclasses import dataclass

Command = tuple[str, ...]

PYTEST = ("{python}", "-m", "pytest", "{plugin}")
BENCHMARKS = (*PYTEST, "--cnnperf-time=0.5")
SUITE = (*BENCHMARKS, "--benchmark-autosave", "--benchmark-storage={out}/runs")
FUSION = (*PYTEST, "--benchmark-autosave", "--benchmark-storage={out}/fusion", "benchmarks/test_se_fusion.py")
CNNPERF = ("{python}", "-m", "cnnperf.cli")
SWEEP = (*CNNPERF, "sweep", "--over=batch", "--engine=eager")
RESNETS, OTHERS = ("benchmarks/test_resnet.py",), ("benchmarks/test_lenet.py", "benchmarks/test_stacks.py")
PHASES = ("--cnnperf-axis=phase=forward,train",)  # a backward alone would take half as long again
ON_CUDA = ("--cnnperf-device=cuda",)
SE_TAX = ("timm:resnet50", "timm:seresnet50", "fused:timm:seresnet50")
TAX_AXES = ("phase=forward,train", "batch=128", "image_size=224", "precision=amp", "layout=channels_last")


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Attributes:
        name: As on the command line.
        estimate: Seconds that it is expected to take on one GPU with 16 cores; never measured on one.
        what: One phrase for the help.
        commands: Run one after the other; the first that fails ends the step.
        environment: Variables beside those of the caller.
    """

    name: str
    estimate: float
    what: str
    commands: tuple[Command, ...]
    environment: tuple[tuple[str, str], ...] = ()


def half(number: int) -> Command:
    """Return the command that measures one half of the ResNets on both devices."""
    of_half = (f"--cnnperf-shard={number}/2", f"--benchmark-json={{out}}/shards/{number}.json")
    return (*BENCHMARKS, *RESNETS, *PHASES, *of_half)


STEPS = (
    Step(
        "probe",
        45,
        "what is there, and whether it works",
        (("{python}", "scripts/cuda_probe.py", "{out}/probe.json"),),
    ),
    Step(
        "tests",
        150,
        "the tests marked gpu",
        (
            (
                *(*PYTEST, "-o", "filterwarnings=default", "-n", "12", "-m", "gpu"),
                *("--junitxml={out}/tests.xml", "{gpu_tests}"),
            ),
        ),
        (("OMP_NUM_THREADS", "2"),),
    ),
    Step("suite-resnet-1", 220, "the ResNets on CPU and CUDA, first half", (half(1),)),
    Step("suite-resnet-2", 220, "the ResNets on CPU and CUDA, second half", (half(2),)),
    Step(
        "suite-resnet",
        15,
        "both halves joined",
        ((*CNNPERF, "merge", "{out}/shards", "--out", "{out}/runs/resnet.json"),),
    ),
    Step(
        "practice",
        300,
        "the ResNets as they are run for speed",
        ((*SUITE, *RESNETS, *ON_CUDA, "--cnnperf-suite=practice"),),
    ),
    Step("fusion", 240, "SE and the tail, channels_last", ((*FUSION, *ON_CUDA, "-k", "channels_last"),)),
    Step(
        "se-tax",
        280,
        "what SE costs timm's ResNet-50, textbook and fused",
        (
            (
                *(*SUITE, "benchmarks/test_own.py", *ON_CUDA, "--cnnperf-cudnn-benchmark=on"),
                *(f"--cnnperf-architecture={name}" for name in SE_TAX),
                *(f"--cnnperf-axis={axis}" for axis in TAX_AXES),
            ),
        ),
    ),
    Step(
        "sweep",
        180,
        "from which batch on CUDA is faster, and where a larger one brings no more",
        (
            (*SWEEP, "resnet18", "--device=cuda", "--out={out}/runs/sweep-resnet18.json"),
            (*SWEEP, "lenet5", "--out={out}/runs/sweep-lenet5.json"),
        ),
    ),
    Step("suite-rest", 300, "LeNets and stacks on CPU and CUDA", ((*SUITE, *OTHERS, *PHASES),)),
    Step("fusion-rest", 240, "SE and the tail, contiguous", ((*FUSION, *ON_CUDA, "-k", "contiguous"),)),
)
