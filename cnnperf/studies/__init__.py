"""Studies that answer questions about architectures by measuring: gradient flow, pooling, SE, depth."""

from cnnperf.stats.growth import Growth, fit_growth
from cnnperf.studies.gradient_flow import GradientFlow, compare_gradient_flow
from cnnperf.studies.paired import Difference, paired_difference

__all__ = ["Difference", "GradientFlow", "Growth", "compare_gradient_flow", "fit_growth", "paired_difference"]
