"""The Open Inference Protocol, version 2, over HTTP, with these extensions of Triton's: binary tensors,
sequences, scheduling, statistics, model repository, model configuration.

Specification: https://github.com/kserve/open-inference-protocol, `inference_rest.md`; the extensions:
https://github.com/triton-inference-server/server, `docs/protocol`.
"""

from service.v2.routes import install

__all__ = ["install"]
