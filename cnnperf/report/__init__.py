"""Runs told to people. Nothing here needs torch or pytest."""

from cnnperf.report.terminal import render

__all__ = ["render"]
