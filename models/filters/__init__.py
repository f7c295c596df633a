"""Causal filters over time: what turns a network's drive into an accelerated one.

A filter reads a sequence and its own state and never looks at the hidden state of the recurrence. Each file
is one rule: `step` is its equation, `forward` the same over a whole sequence, faster.
"""

from models.filters.adam import Adam, RMSProp
from models.filters.base import FILTERS, Filter
from models.filters.identity import Identity
from models.filters.momentum import Momentum
from models.filters.nesterov import Nesterov

__all__ = ["FILTERS", "Adam", "Filter", "Identity", "Momentum", "Nesterov", "RMSProp"]
