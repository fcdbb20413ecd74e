"""Measurement of one case: workload, clock, sampler, memory, work, ceilings, environment and findings."""
