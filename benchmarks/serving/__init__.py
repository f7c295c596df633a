"""How fast the service answers, beside other servers of the same model on the same machine in the same run.

`make bench-serving` runs `python -m benchmarks.serving`. Every peer has a file in `peers`, which runs in an
environment of its own and finds there only `digits` and `ports` of this package.
"""
