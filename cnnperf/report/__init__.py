"""Runs told to people. Nothing here needs torch, pandas or pytest."""

from cnnperf.report.terminal import render

__all__ = ["render"]
