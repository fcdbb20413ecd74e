"""The commands of the command line: their arguments and what they call. No help text needs PyTorch or pandas."""
