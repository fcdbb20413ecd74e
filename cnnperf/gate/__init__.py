"""The gate: a commit and the work tree measured side by side, with a verdict for each case."""
