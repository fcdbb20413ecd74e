"""What every test needs: a device for the tests that are marked `gpu`, and exact convolutions there."""

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

settings.register_profile("a busy machine", deadline=None)  # a test measures no time
settings.load_profile("a busy machine")

TF32_ADVICE = "ignore:TensorFloat32 tensor cores:UserWarning"
"""Inductor's advice, which is not to be followed where results are compared in fp32."""


def pytest_collection_modifyitems(items):
    import torch

    without_device = pytest.mark.skip(reason="needs a CUDA device; run scripts/cuda.sh where there is one")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings(TF32_ADVICE))
            if not torch.cuda.is_available():
                item.add_marker(without_device)


@pytest.fixture(autouse=True)
def _exact_convolutions_on_a_device(request):
    """Forbid TF32 in tests of a device: cuDNN's default rounds what goes into a convolution to 10 bits."""
    if not request.node.get_closest_marker("gpu"):
        yield
        return
    from torch.backends import cudnn

    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    yield
    cudnn.allow_tf32 = before
