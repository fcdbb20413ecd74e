"""One run of the benchmarks: its options, its cases, and the pytest plugin."""
