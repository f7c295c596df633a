"""What `make bench` runs: this project beside its peers, in the same process and the same minutes.

Machines are shared and noisy. So everything that is compared runs in turn, round by round, and what is
reported are ratios within a round, with their spread.
"""
