"""Packages of extras that some tests need, and a machine that runs the tests of a device may lack."""

import importlib
import os

import pytest


def needs(*packages):
    """Skip the module that calls this where a package cannot be imported; in CI, which has all of them, fail."""
    for package in packages:
        if os.environ.get("CI"):
            importlib.import_module(package)
        pytest.importorskip(package, exc_type=ImportError)
