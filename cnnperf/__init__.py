"""Performance suite for convolutional networks in PyTorch.

Names are loaded when they are first used: the pytest plugin of this package is imported by every pytest run of an
environment and must not pay for torch or pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnperf.errors import CnnperfError as CnnperfError
    from cnnperf.models.subject import Subject as Subject
    from cnnperf.runs import compare_runs as compare_runs
    from cnnperf.runs import history as history
    from cnnperf.runs import load_ratios as load_ratios
    from cnnperf.runs import load_runs as load_runs
    from cnnperf.runs import load_samples as load_samples

__version__ = "0.1.0"

_HOMES = {
    "CnnperfError": "cnnperf.errors",
    "Subject": "cnnperf.models.subject",
    "compare_runs": "cnnperf.runs",
    "history": "cnnperf.runs",
    "load_ratios": "cnnperf.runs",
    "load_runs": "cnnperf.runs",
    "load_samples": "cnnperf.runs",
}

__all__ = [
    "CnnperfError",
    "Subject",
    "__version__",
    "compare_runs",
    "history",
    "load_ratios",
    "load_runs",
    "load_samples",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cnnperf' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
