"""The backend in Triton, for maps on a GPU."""
