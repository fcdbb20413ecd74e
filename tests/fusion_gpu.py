"""What the tests of the GPU kernels share: tensors, checks against float64, and a launcher that launches nothing.

Errors are norms of the difference from a float64 reference, relative to the reference's norm. A check takes `run`,
which calls a function with tensors where the kernels run, and `module`, which is `cnnperf.fusion.triton.functions` or
one with a fault.
"""

import torch

from cnnperf.fusion import algebra
from cnnperf.fusion.algebra import Forward, Frozen, Parameters
from cnnperf.fusion.excitation import Excitation, squeeze_and_excite

EPS = 1e-5
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SMALL = 1e-5  # of what is computed in fp32, whatever the maps are in
TOLERANCE = {torch.float32: SMALL, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Of maps: a few roundings. Triton's interpreter does not round to bf16 but truncates, an error of up to 2^-7."""

DTYPES = list(TOLERANCE)
SHAPES = [
    (3, 32, 8, 7),
    (2, 5, 3, 3),
    (1, 24, 7, 7),
    (1, 6, 40, 60),  # several parts
]
WIDE = (9, 300, 1, 1)  # more channels, hidden values and samples than a tile of the excitation has
SWEPT = (2, 6, 33, 33)  # too many pixels for one program
PROBE = (3, 16, 5, 4)
BIASED = "reduce_bias" in Parameters._fields
"""Whether a tail's excitation may have biases."""

KINDS = [
    ("relu", "sigmoid", False),
    ("silu", "sigmoid", True),
    ("relu", "hardsigmoid", True),
    ("silu", "hardsigmoid", False),
]


def draw(*size, seed=0, dtype=torch.float32, layout=None, offset=0.0):
    """Give numbers that are exact in `dtype`, so that a reference in float64 starts from the same."""
    generator = torch.Generator().manual_seed(seed)
    numbers = (torch.randn(*size, generator=generator, dtype=torch.float64) + offset).to(dtype)
    return numbers.contiguous(memory_format=FORMATS[layout]) if layout else numbers


def tail_tensors(shape, dtype=torch.float32, layout="contiguous", offset=0.0, biased=BIASED, small=torch.float32):
    """Give x, shortcut, parameters in dtype `small`, and the gradient of the output."""
    channels, hidden = shape[1], max(1, shape[1] // 4)
    x, shortcut, grad = (draw(*shape, seed=seed, dtype=dtype, layout=layout) for seed in (1, 2, 3))
    weights = draw(channels, seed=4).abs() + 0.5, draw(channels, seed=5), draw(hidden, channels), draw(channels, hidden)
    biases = (draw(hidden, seed=14), draw(channels, seed=15)) if biased else (None, None)[: 2 * BIASED]
    parameters = (one if one is None else one.to(small) for one in (*weights, *biases))
    return (x + offset).contiguous(memory_format=FORMATS[layout]), shortcut, Parameters(*parameters), grad


def given_to(operator, parameters):
    """Give the parameters that an operator takes; where it takes no biases there must be none."""
    takes = {one.name for one in operator._schema.arguments}
    return [one for name, one in zip(parameters._fields, parameters, strict=True) if name in takes]


def frozen(channels):
    mean, variance = draw(channels, seed=6), draw(channels, seed=7).abs() + 0.5
    return Frozen(draw(channels, seed=8), draw(channels, seed=9), mean, variance, EPS)


def excitation_of(channels, activation, gate, biased):
    hidden = max(1, channels // 4)
    biases = (draw(hidden, seed=10), draw(channels, seed=11)) if biased else (None, None)
    return Excitation(draw(hidden, channels, seed=12), draw(channels, hidden, seed=13), *biases, activation, gate)


def wide(*tensors):
    """Give everything in float64 but what is a mask, a number, a name or nothing."""
    floats = (torch.is_tensor(one) and one.is_floating_point() for one in tensors)
    return tuple(one.double() if is_float else one for one, is_float in zip(tensors, floats, strict=True))


def distance(found, exact, scale=0.0):
    exact = exact.double()
    return float((found.double() - exact).norm()) / max(float(exact.norm()), scale, 1e-9)


def check(found, exact, dtype, small=SMALL):
    """See that maps are near for their dtype, all else within `small`; what cancels is judged by the largest."""
    scale = 1e-2 * max(float(one.norm()) for one in exact if one.is_floating_point())
    for index, (one, other) in enumerate(zip(found, exact, strict=True)):
        limit = TOLERANCE[dtype] if one.dim() == 4 else small
        assert distance(one, other, scale) <= limit, (index, distance(one, other, scale))


def check_mask(mask, total):
    """See that a byte is set where a sum is above 0; one so near 0 that fp32 may round it either way does not count."""
    clear = total.abs() > 1e-5
    assert torch.equal(mask[clear] != 0, total[clear] > 0)


def exact_forward(x, shortcut, parameters, *merge):
    """Give what a forward gives in float64, and the sum before its ReLU."""
    exact = algebra.tail_forward(*wide(x, shortcut), Parameters(*wide(*parameters)), EPS, *merge)
    slope = parameters.weight.double() * torch.rsqrt(exact.variance + EPS)
    normalized = (x.double() - exact.mu[:, None, None]) * slope[:, None, None] + parameters.bias[:, None, None].double()
    return exact, normalized * exact.gate[:, :, None, None] + shortcut.double()


def check_forward(kept, x, shortcut, parameters, *merge):
    exact, total = exact_forward(x, shortcut, parameters, *merge)
    check([kept.out, *kept[2:]], [exact.out, *exact[2:]], x.dtype)
    check_mask(kept.mask, total)
    assert all(one.stride() == x.stride() for one in kept[:2])


def check_backward(found, grad, x, kept, parameters, *add):
    # From the same mask and the same hidden values, so that no activation near 0 can fall on two sides.
    exact_parameters = Parameters(*wide(*parameters))
    exact = algebra.tail_backward(*wide(grad, x), Forward(*wide(*kept)), exact_parameters, EPS, *add)
    known = [one is not None for one in exact]
    pairs = zip(found, exact, known, strict=True)
    ours, theirs = zip(*((one, other) for one, other, there in pairs if there), strict=True)
    check(ours, theirs, x.dtype, max(SMALL, TOLERANCE[parameters.weight.dtype]))
    assert [one.dtype for one in found[2:6]] == [one.dtype for one in parameters[:4]]
    assert all(one.stride() == x.stride() for one in found[:2])


def check_training(run, module, shape, dtype=torch.float32, layout="contiguous", biased=BIASED, small=torch.float32):
    x, shortcut, parameters, grad = tail_tensors(shape, dtype, layout, biased=biased, small=small)
    kept = run(module.tail_forward, x, shortcut, parameters, EPS)
    check_forward(kept, x, shortcut, parameters)
    check_backward(run(module.tail_backward, grad, x, kept, parameters, EPS), grad, x, kept, parameters)


def moved_statistics(forward, x, shortcut, parameters, fields):
    """Give running mean, variance and number of batches after two forwards."""
    from cnnperf.fusion.triton.tail import Running

    running = Running(*(one.clone() if torch.is_tensor(one) else one for one in fields))
    for _ in range(2):
        forward(x, shortcut, parameters, EPS, None, running)
    return tuple(running[:3])


def check_statistics(run, function, shape, momentum=0.1, dtype=torch.float32, counted=True, layout="contiguous"):
    """See that running statistics move as those of `nn.BatchNorm2d` in float64."""
    x, shortcut, parameters, _ = tail_tensors(shape, layout=layout)
    fields = draw(shape[1], seed=30, dtype=dtype), draw(shape[1], seed=31).abs().to(dtype)
    batches = torch.tensor(3) if counted else None
    norm = torch.nn.BatchNorm2d(shape[1], momentum=momentum).double()
    norm.running_mean, norm.running_var = wide(*fields)
    norm.num_batches_tracked = None if batches is None else batches.clone()
    mean, variance, count = run(function, x, shortcut, parameters, (*fields, batches, momentum))
    for _ in range(2):
        norm(x.double())
    limit = 2 * TOLERANCE[dtype]  # each forward rounds
    assert distance(mean, norm.running_mean) <= limit
    assert distance(variance, norm.running_var) <= limit
    assert mean.dtype == variance.dtype == dtype
    assert count is None if batches is None else int(count) == 5


def check_inference(run, module, shape, dtype=torch.float32, layout="contiguous", biased=BIASED):
    x, shortcut, parameters, _ = tail_tensors(shape, dtype, layout, biased=biased)
    norm, weights = frozen(shape[1]), parameters[2:]
    found = run(module.tail_inference, x, shortcut, norm, *weights)
    exact = algebra.tail_inference(*wide(x, shortcut), Frozen(*wide(*norm)), *wide(*weights))
    check([found], [exact], dtype)
    assert found.stride() == x.stride()


def check_scaling(run, module, shape, dtype=torch.float32, layout="contiguous", known=False):
    x, _, parameters, _ = tail_tensors(shape, dtype, layout)
    norm, weights, means = frozen(shape[1]), parameters[2:], x.double().mean((2, 3))
    found = run(module.tail_scaling, x, means.float() if known else None, norm, *weights)
    exact = algebra.tail_scaling(means, Frozen(*wide(*norm)), *wide(*weights))
    check(list(found), exact, torch.float32)


def check_gate(run, module, shape, kind, dtype=torch.float32, layout="contiguous"):
    x, _, _, grad = tail_tensors(shape, dtype, layout)
    excitation = excitation_of(shape[1], *kind)
    kept = run(module.se_forward, x, excitation)
    *found, into_activation, into_gate = run(module.se_backward, grad, x, kept, excitation)
    found += [into_activation.sum(0), into_gate.sum(0)] if kind[2] else []
    leaves = [one if one is None else one.double().requires_grad_() for one in (x, *excitation[:4])]
    out = squeeze_and_excite(leaves[0], Excitation(*leaves[1:], *excitation[4:]))
    exact = torch.autograd.grad(out, [one for one in leaves if one is not None], grad.double())
    check([kept.out], [out.detach()], dtype)
    check(found, exact, dtype)


class Recorder(list):
    """Launcher that notes launches instead of making them."""

    def __call__(self, kernel, programs, *arguments, **constants):
        self.append((kernel, programs, arguments, constants))

    @property
    def names(self):
        return [kernel.__name__ for kernel, *_ in self]
