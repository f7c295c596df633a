"""The same model in other servers, each at the best setting that was found for it.

A module here is run as `python -m benchmarks.serving.peers.NAME` in an environment made from NAME.txt, with
the port in BENCH_PORT, the artifact's graph in BENCH_MODEL and a fresh folder as working directory.
"""
