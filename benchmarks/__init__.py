"""Benchmarks: one command each, ratios within one run. Results go to benchmarks/results/."""
