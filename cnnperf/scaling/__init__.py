"""Training on several processes: throughput against the number of processes, and the cost of communication.

Run it with `torchrun --nproc-per-node N -m cnnperf.scaling`.
"""
