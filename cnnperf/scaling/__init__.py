"""Training on several processes: how throughput grows with them, and what their communication costs.

Started by `torchrun --nproc-per-node N -m cnnperf.scaling`.
"""
