"""Plain data of a run, and the one reader and writer of a run file. Nothing here needs torch or pandas."""
