"""Processes that train together, for tests: each runs a function of this module and sends back what it returns."""

import multiprocessing
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import torch
from maps import FORMATS
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from cnnperf.fusion import synchronized
from cnnperf.fusion.backends import ALGEBRA, NATIVE
from cnnperf.fusion.halves import Halves, Tail
from cnnperf.fusion.synchronized import GroupExchange
from cnnperf.fusion.tail import fused_tail, textbook_tail
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.records.case import Case
from cnnperf.scaling.step import Silent, Step

LIMIT = 60.0  # seconds that a process waits for the others
CHANNELS, REDUCTION = 32, 4
FUSED, TEXTBOOK = "fused", "textbook"


class Together:
    """Be a number of processes that can reach each other."""

    def __init__(self, size, folder):
        context = multiprocessing.get_context("spawn")
        self._ends, self._processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, rank, size, str(folder / "store")), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def __call__(self, work, *arguments):
        """Return what `work(rank, *arguments)` returns in each of the processes."""
        for end in self._ends:
            end.send((work, arguments))
        answers = []
        for end in self._ends:
            assert end.poll(2 * LIMIT), "a process hangs"
            answers.append(end.recv())
        for answer in answers:
            assert not isinstance(answer, str), answer
        return answers

    def close(self):
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(5)
            process.kill()


def serve(end, rank, size, store):
    torch.set_num_threads(1)
    timeout = timedelta(seconds=LIMIT)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timeout)
    while True:
        try:
            work, arguments = end.recv()
        except EOFError:
            return
        try:
            end.send(work(rank, *arguments))
        except Exception:  # noqa: BLE001 - told by the test that asked
            end.send(traceback.format_exc())


def network(dtype=torch.float32, *, biased=True):
    """Return SyncBatchNorm and SE block, the same in every process."""
    torch.manual_seed(7)
    norm, se = nn.SyncBatchNorm(CHANNELS, momentum=0.3), SEBlock(CHANNELS, REDUCTION, bias=biased)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias)
    return norm.to(dtype), se.to(dtype)


def batch(sizes, rank, dtype=torch.float32, layout="contiguous"):
    """Return this process's part of x, shortcut and the output's gradient; every part has another mean."""
    drawn = []
    for part, size in enumerate(sizes):
        generator = torch.Generator().manual_seed(part)
        maps = [torch.randn(size, CHANNELS, 7, 6, generator=generator, dtype=torch.float64) for _ in range(3)]
        drawn.append([maps[0] * (1 + part) + 5 * part, *maps[1:]])
    parts = drawn[rank] if rank is not None else [torch.cat(maps) for maps in zip(*drawn, strict=True)]
    return [one.to(dtype).contiguous(memory_format=FORMATS[layout]) for one in parts]


def results(tail, norm, se, maps):
    """Return output, gradients of maps and parameters, and running statistics, after one training step."""
    x, shortcut, grad = maps
    leaves = [one.detach().requires_grad_() for one in (x, shortcut)]
    out = tail(*leaves, norm, se)
    gradients = torch.autograd.grad(out, [*leaves, *norm.parameters(), *se.parameters()], grad)
    return [one.detach() for one in (out, *gradients, norm.running_mean, norm.running_var, norm.num_batches_tracked)]


def one_step(rank, which, sizes, dtype, layout, biased=True):
    """Run the fused tail, or PyTorch's own SyncBatchNorm with the textbook tail.

    The layout is a name: a memory format cannot be sent from process to process.
    """
    tail = fused_tail if which == FUSED else textbook_tail
    with cpu_for_a_device() if which == TEXTBOOK else nullcontext():
        return results(tail, *network(dtype, biased=biased), batch(sizes, rank, dtype, layout))


def on_device(rank, which, sizes):
    """Do `one_step` on a CUDA device, which the processes share; what crosses between them goes by way of the host."""
    norm, se = (one.to("cuda") for one in network())
    maps = [one.to("cuda") for one in batch(sizes, rank)]
    return [one.cpu() for one in results(fused_tail if which == FUSED else textbook_tail, norm, se, maps)]


def exchanges(rank, size):
    """Return how often BatchNorm's buffers and the gradients crossed in steps and in silent ones, taken in turns."""
    step = Step(Case("resnet18", "train", batch=2, image_size=8, width=4, world_size=size), rank)
    step.join(distributed.group.WORLD)
    parallel, seen = step.workload.network, []
    real = parallel._sync_buffers
    parallel._sync_buffers = lambda: (seen.append("buffers"), real())[1]
    parallel.register_comm_hook(None, lambda _, bucket: (seen.append("gradients"), allreduce_hook(None, bucket))[1])
    silent, found = Silent(step), {True: [], False: []}
    for is_silent in (False, True, True, False, False, True, False):
        seen.clear()
        (silent if is_silent else step).run()
        found[is_silent].append((seen.count("buffers"), seen.count("gradients") > 0))
    step.check_average()
    return found[False], found[True]


def whole_batch(sizes, dtype=torch.float32, *, biased=True):
    """Return what one process gets in float64 from the same numbers of all parts: BatchNorm over the whole batch."""
    norm, se = (one.double() for one in network(dtype, biased=biased))
    plain = nn.BatchNorm2d(CHANNELS, momentum=norm.momentum, dtype=torch.float64)
    plain.load_state_dict(norm.state_dict())
    return results(textbook_tail, plain, se, [one.double() for one in batch(sizes, None, dtype)])


def finite_differences(rank, sizes):
    """Check the derivative of the loss of all processes by the step of one number of each map, in float64."""
    norm, se = network(torch.float64)
    x, shortcut, grad = batch(sizes, rank, torch.float64)

    def loss(moved):
        out = fused_tail(moved, shortcut, norm, se)
        total = (out * grad).sum()
        distributed.all_reduce(total)
        return total

    moved = x.clone().requires_grad_()
    out = fused_tail(moved, shortcut, norm, se)
    (found,) = torch.autograd.grad(out, moved, grad)
    errors = []
    for owner, size in enumerate(sizes):  # all processes step together, one of them moves a number
        step = torch.zeros_like(x)
        if owner == rank and size:
            step[0, 1, 2, 3] = 1e-5
        with torch.no_grad():
            slope = (loss(x + step) - loss(x - step)) / 2e-5
        if owner == rank and size:
            errors.append(abs(float(slope - found[0, 1, 2, 3])) / max(1e-3, abs(float(slope))))
    return max(errors, default=0.0)


def which_form(rank, sizes, dtype):
    """Return whether the C++ kernels ran."""
    used = []
    real = NATIVE.halves
    spied = Halves(lambda *given: (used.append(1), real.forward(*given))[1], real.backward)
    synchronized.MERGING = (replace(NATIVE, halves=spied), *synchronized.MERGING[1:])
    results(fused_tail, *network(dtype), batch(sizes, rank, dtype))
    return bool(used)


def in_algebra(rank, sizes, eps):
    """Return what the plain algebra gives in float64, by the same collectives."""
    norm, se = network(torch.float64)
    x, shortcut, grad = batch(sizes, rank, torch.float64)
    leaves = [one.requires_grad_() for one in (x, shortcut)]
    small = (norm.weight, norm.bias, se.reduce.weight, se.expand.weight, se.reduce.bias, se.expand.bias)
    exchange = GroupExchange(distributed.group.WORLD, x.numel() // x.shape[1])
    out, *_ = Tail.apply(ALGEBRA.halves, eps, exchange, *leaves, *small)
    return [out.detach(), *torch.autograd.grad(out, [*leaves, *norm.parameters(), *se.parameters()], grad)]


@contextmanager
def cpu_for_a_device():
    """Let `torch.nn.SyncBatchNorm` run on the CPU, where PyTorch has no kernels for the five operators that it calls.

    What crosses between processes, and its autograd function, stay PyTorch's own. The formulas are those of
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html.
    """
    library = torch.library.Library("aten", "IMPL", "CPU")
    for name, operator in OPERATORS.items():
        library.impl(name, operator)
    before, torch._C._get_privateuse1_backend_name = torch._C._get_privateuse1_backend_name, lambda: "cpu"
    try:
        yield
    finally:
        torch._C._get_privateuse1_backend_name = before
        library._destroy()


def wide(one):
    return one[None, :, None, None]


def stats(x, eps):
    return x.mean((0, 2, 3)), torch.rsqrt(x.var((0, 2, 3), unbiased=False) + eps)


def gather_stats(x, means, inverses, running_mean, running_var, momentum, eps, counts):
    counts, total = counts[:, None], counts.sum()
    mean = (means * counts).sum(0) / total
    variances = inverses**-2 - eps
    variance = ((variances + (means - mean) ** 2) * counts).sum(0) / total
    if running_mean is not None:
        running_mean.mul_(1 - momentum).add_(momentum * mean)
        running_var.mul_(1 - momentum).add_(momentum * variance * total / (total - 1))
    return mean, torch.rsqrt(variance + eps)


def elemt(x, weight, bias, mean, inverse, eps):
    return (x - wide(mean)) * wide(inverse * weight) + wide(bias)


def backward_reduce(grad, x, mean, inverse, weight, *_):
    centred = x - wide(mean)
    dy, dy_x = grad.sum((0, 2, 3)), (grad * centred).sum((0, 2, 3))
    return dy, dy_x, dy_x * inverse, dy.clone()


def backward_elemt(grad, x, mean, inverse, weight, dy, dy_x, counts):
    total = counts.sum()
    return (grad - wide(dy / total) - (x - wide(mean)) * wide(inverse**2 * dy_x / total)) * wide(inverse * weight)


OPERATORS = {
    "batch_norm_stats": stats,
    "batch_norm_gather_stats_with_counts": gather_stats,
    "batch_norm_elemt": elemt,
    "batch_norm_backward_reduce": backward_reduce,
    "batch_norm_backward_elemt": backward_elemt,
}
