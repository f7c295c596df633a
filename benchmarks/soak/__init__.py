"""Everything at once, for a long time: `python -m benchmarks.soak`, and what is left of the server after it.

A real server process is loaded by clients of every kind, good, bad, slow and gone, while new versions of its
models come and old ones go, some of them broken. Every answer is compared with onnxruntime's, and what the
server holds, memory, threads and files, is watched.
"""
