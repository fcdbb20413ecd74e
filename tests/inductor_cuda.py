"""What Inductor would generate for a CUDA device, without one: for PyTorch 2.13.

A network is traced on the CPU, where autograd can run. Its graphs of operators are then put on fake tensors of
`cuda:0`, and lowered and turned into code as `torch._inductor.compile_fx` does it, for a made H100; nothing is built or
run. The layouts of convolutions are those that cuDNN returns: channels_last where an operand is that.
"""

import contextlib
import copy
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch._dynamo import device_interface
from torch._functorch import config as functorch_config
from torch._functorch.aot_autograd import make_boxed_func
from torch._guards import TracingContext
from torch._inductor import compile_fx, ir
from torch._inductor.codegen import cuda_combined_scheduling  # noqa: F401 - loaded first, or it would keep a fake
from torch._inductor.debug import DebugContext
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensor

DEVICE = torch.device("cuda:0")
MAP_DIMENSIONS = 4


class H100:
    """What Inductor asks of a device's properties."""

    name = "NVIDIA H100"
    major, minor = 9, 0
    gcnArchName = ""  # noqa: N815 - PyTorch's name
    L2_cache_size = 50 << 20
    max_threads_per_block = 1024
    max_threads_per_multi_processor = 2048
    multi_processor_count = 132
    regs_per_multiprocessor = 65536
    shared_memory_per_block = 48 << 10
    shared_memory_per_block_optin = shared_memory_per_multiprocessor = 227 << 10
    total_memory = 80 << 30
    warp_size = 32


class Device(device_interface.CudaInterface):
    """A CUDA device that can be asked, and not used."""

    class Worker:
        get_device_properties = staticmethod(lambda _=None: H100)
        current_device = staticmethod(lambda: 0)

    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    is_available = staticmethod(lambda: True)
    is_bf16_supported = staticmethod(lambda *_, **__: True)
    get_compute_capability = staticmethod(lambda _=None: 90)
    get_device_properties = staticmethod(lambda _=None: H100)
    is_triton_capable = staticmethod(lambda _=None: True)
    raise_if_triton_unavailable = staticmethod(lambda _=None: None)


def cudnn_format(x, weight, _):
    """Return the memory format of a convolution's output, as aten/src/ATen/native/ConvUtils.h has it for cuDNN."""
    last = any(one.is_contiguous(memory_format=torch.channels_last) and not one.is_contiguous() for one in (x, weight))
    return torch.channels_last if last else torch.contiguous_format


FAKES = {
    "torch.cuda.current_device": lambda: 0,
    "torch.cuda.device_count": lambda: 1,
    "torch.cuda.get_device_capability": lambda _=None: (9, 0),
    "torch.cuda.get_device_properties": lambda _=None: H100,
    "torch.cuda.is_available": lambda: True,
    "torch.cuda._lazy_init": lambda: None,
    "torch.version.cuda": "13.0",
    "torch._inductor.scheduler.has_triton": lambda: True,
    "torch.utils._triton.has_triton": lambda: True,
    "torch.utils._triton.triton_hash_with_backend": lambda: "no device",
    "torch._C._conv_determine_backend_memory_format": cudnn_format,
}


@dataclass
class Generated:
    """What was generated for a network.

    Attributes:
        code: Of the forward's graph, and in training of the backward's.
        copies: Name and shape of each map that is copied into another layout before an operator reads it.
    """

    code: list[str] = field(default_factory=list)
    copies: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def generate(model, images):
    """Generate code for a network and its images, N x 3 x H x W, both on the CPU: for training if it is in training."""
    generated = Generated()

    def lower(graph, inputs, *, is_backward=False, is_inference=False, **_):
        with _pretended_device(generated):
            _lower(graph, inputs, is_backward, is_inference, generated)
        return make_boxed_func(graph)

    def backend(graph, inputs):
        return compile_fx.compile_fx(graph, inputs, inner_compile=lower)

    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, dynamic=False)
    with functorch_config.patch(force_non_lazy_backward_lowering=True), torch.set_grad_enabled(model.training):
        compiled(images)
    torch.compiler.reset()
    return generated


def _lower(graph, inputs, is_backward, is_inference, generated):
    graph, inputs, mode = _on_device(graph, inputs)
    with V.set_fake_mode(mode), V.set_debug_handler(DebugContext()), torch.no_grad():
        compile_fx.view_to_reshape(graph)
        compile_fx.fake_tensor_prop(graph, inputs, force_allow_non_fake_inputs=True)
        compile_fx.record_original_output_strides(graph)
        compile_fx._recursive_post_grad_passes(graph, is_inference=is_inference)
        lowering = GraphLowering(graph, example_inputs=inputs, is_backward=is_backward, is_inference=is_inference)
        with V.set_graph_handler(lowering), V.set_extern_kernel_nodes([]):
            lowering.run(*inputs)
            _report_strides(lowering)
            generated.code.append(lowering.codegen()[0].value)


def _on_device(graph, inputs):
    """Return a copy of a graph and of its inputs on the device; only shapes, strides and devices are real."""
    graph = copy.deepcopy(graph)
    mode = next(one.fake_mode for one in inputs if isinstance(one, FakeTensor))

    def moved(value):
        if isinstance(value, torch.Tensor):
            with mode:
                return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=DEVICE)
        return type(value)(map(moved, value)) if isinstance(value, (list, tuple)) else value

    for node in graph.graph.nodes:
        node.meta = {key: moved(value) if key == "val" else value for key, value in node.meta.items()}
        node.meta.pop("tensor_meta", None)
        if node.kwargs.get("device") is not None:
            node.kwargs = {**node.kwargs, "device": DEVICE}
    graph.recompile()
    return graph, [moved(one) for one in inputs], mode


def _report_strides(lowering):
    """Tell the tracing of the backward in which layouts the forward leaves what it keeps."""
    context = TracingContext.try_get()
    if context is None or context.output_strides is None:
        return
    for one in lowering.graph_outputs:
        is_tensor = isinstance(one, ir.IRNode) and one.has_tensor_output()
        context.output_strides.append(tuple(map(int, one.get_layout().stride)) if is_tensor else None)


@contextlib.contextmanager
def _pretended_device(generated):
    copy_input = ir.ExternKernel.copy_input

    def counted(x):
        shape = tuple(map(int, x.get_size()))
        # What is computed on the way is written in the layout that is wanted, and is no copy.
        if len(shape) == MAP_DIMENSIONS and not isinstance(getattr(x.data, "data", None), ir.Pointwise):
            generated.copies.append((V.graph.current_node.name, shape))
        return copy_input(x)

    device_interface.get_interface_for_device("cpu")  # or the first question would register the real ones over these
    with contextlib.ExitStack() as stack:
        names = dict.fromkeys(("cuda", str(DEVICE)), Device)
        stack.enter_context(mock.patch.dict(device_interface.device_interfaces, names))
        for name, fake in FAKES.items():
            stack.enter_context(mock.patch(name, fake))
        stack.enter_context(mock.patch.object(ir.ExternKernel, "copy_input", staticmethod(counted)))
        yield
