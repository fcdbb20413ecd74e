"""Guess what a misspelled name was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Suggest the allowed name that is nearest to a wrong one.

    Args:
        name: The name that is not allowed.
        allowed: The names that are.

    Returns:
        " (did you mean 'resnet18'?)", or nothing where no allowed name is near.
    """
    nearest = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
