"""Scenarios that measure a claim beside a peer or the limit, in one run; `python -m benchmarks` runs them all."""
