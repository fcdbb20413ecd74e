"""Networks that cnnperf measures, one module per family, and the catalog of their names."""
