"""Checkpoint -> self-contained ONNX artifact: graph, verification, card, store.

This module imports neither torch nor onnx, so that the service can read `exports.card` without them.
"""

import os

from exports.card import Card

# Otherwise onnxruntime reports what it runs to Microsoft, writes an identifier into the user's cache, and
# holds up the end of the process for ten seconds where there is no network. Whatever runs graphs imports
# this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Card"]
