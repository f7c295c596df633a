"""Measurements of this project beside its peers, in the same process and the same minutes.

`make bench-training` runs `python -m benchmarks.training`.

Machines are shared and noisy. So everything that is compared runs in turn, round by round, and what is
reported are ratios within a round, with their spread.
"""
