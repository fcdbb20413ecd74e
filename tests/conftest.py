"""What every test needs: a compile cache of its own, and a device for the tests that are marked `gpu`."""

import pytest

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items):
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; run scripts/cuda.sh where there is one"))
