"""Sequential loops in C++ for the CPU, with hand-written gradients.

A loop over hundreds of small steps spends more time between PyTorch's operators than in them. What runs on
the vendor's fused kernels does not need this; what reads a drive that those cannot read (nonlinear filters,
orthogonal matrices) does. Each source is built on first use and kept in the user's cache.
"""

from models.kernels import adam, recurrence
from models.kernels.build import BuildError, build
from models.kernels.projection import project

__all__ = ["BuildError", "adam", "build", "project", "recurrence"]
