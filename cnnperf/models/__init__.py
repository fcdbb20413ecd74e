"""Hold the networks that cnnperf measures, one file a family, and the catalog that names them."""
