#!/usr/bin/env bash
# Do what is worth doing on a machine with a CUDA device, step by step within a budget: scripts/cuda.py --help tells more.
# Needs a Python with torch for CUDA, msgspec, pytest, pytest-benchmark and pytest-xdist; cnnperf itself need not be
# installed. A machine without a network gets msgspec from its wheel: pip install --no-index --no-deps msgspec-*.whl.
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/cuda.py" "$@"
