"""Suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Suggest the allowed name nearest to a misspelled one.

    Returns:
        Text such as " (did you mean 'resnet18'?)"; empty if no allowed name is near.
    """
    nearest = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
