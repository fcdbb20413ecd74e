"""Views of runs: terminal, Markdown, page and pictures. Nothing here needs torch or pytest."""
