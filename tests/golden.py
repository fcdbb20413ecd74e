"""Texts that must stay as they are; `UPDATE_GOLDEN=1 pytest` writes them anew, and git shows what changed."""

import os
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def golden(name, text):
    """Return the text that is expected, which is the given one where it is written anew."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")
