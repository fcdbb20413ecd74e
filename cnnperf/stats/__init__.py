"""Statistics of measured times: numbers in, numbers out."""
