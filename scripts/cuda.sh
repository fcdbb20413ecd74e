#!/usr/bin/env bash
# Do what is worth doing on a machine with a CUDA device, step by step within a budget: scripts/cuda.py --help tells more.
# Needs a Python with torch for CUDA, pytest, pytest-benchmark and pytest-xdist; cnnperf itself need not be installed.
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/cuda.py" "$@"
