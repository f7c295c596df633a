"""Checkpoint -> self-contained ONNX artifact: graph, verification, card, store.

This module imports neither torch nor onnx, so that the service can read `exports.card` without them.
"""

from exports.card import Card

__all__ = ["Card"]
