"""Problems made to ask how long a network remembers, drawn from a seed as many times as anyone wants."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

Example = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Draw = npt.NDArray[np.uint64]


class Problem(ABC):
    """Examples of one length.

    Args:
        length: T, how long the network has to remember, in steps.

    Attributes:
        input_size, output_size: what a `SequenceModel` for the problem has.

    Raises:
        ValueError: length is too small.
    """

    input_size: ClassVar[int]
    output_size: ClassVar[int]
    shortest: ClassVar[int]

    def __init__(self, length: int) -> None:
        if length < self.shortest:
            raise ValueError(f"length must be at least {self.shortest}, got {length}")
        self.length = length

    @property
    @abstractmethod
    def baseline(self) -> float:
        """The loss of the best answer that uses no memory."""

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many random numbers an example takes."""

    @abstractmethod
    def example(self, draw: Draw) -> Example:
        """Inputs and targets from `draws` random numbers of 64 bits each."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            outputs: [batch, time, output_size].
            targets: the examples' targets, stacked.
        """


class Copying(Problem):
    """Repeat 10 symbols after T steps.

    Inputs, int64 [T + 20] in [0, 10): 10 symbols of 8 categories, T - 1 blanks (8), a delimiter (9), 10
    blanks. Targets, int64 [T + 20] in [0, 9): blanks, and after the delimiter the 10 symbols. The loss is the
    cross entropy of every step, in nats.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997); set up as in Arjovsky, Shah, Bengio,
    "Unitary Evolution Recurrent Neural Networks" (ICML 2016).
    """

    input_size = 10
    output_size = 9
    shortest = 1
    symbols, categories, blank, delimiter = 10, 8, 8, 9

    @property
    def baseline(self) -> float:
        """10 ln 8 / (T + 20): sure of every blank, and no idea of the symbols."""
        return self.symbols * math.log(self.categories) / (self.length + 2 * self.symbols)

    @property
    def draws(self) -> int:
        """One a symbol."""
        return self.symbols

    def example(self, draw: Draw) -> Example:
        symbols = draw >> np.uint64(61)  # 3 bits: 8 categories
        inputs = np.full(self.length + 2 * self.symbols, self.blank, np.int64)
        targets = inputs.copy()
        inputs[: self.symbols] = targets[-self.symbols :] = symbols
        inputs[-self.symbols - 1] = self.delimiter
        return inputs, targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs.flatten(0, 1), targets.flatten())


class Adding(Problem):
    """Add the 2 of T numbers that are marked.

    Inputs, float32 [T, 2]: numbers uniform in [0, 1], and marks, 1 at one step of each half and 0 elsewhere.
    Target, float32 []: the sum of the marked numbers. The loss is the mean squared error of the last step's
    output.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997); set up as in Arjovsky, Shah, Bengio,
    "Unitary Evolution Recurrent Neural Networks" (ICML 2016).
    """

    input_size = 2
    output_size = 1
    shortest = 2

    @property
    def baseline(self) -> float:
        """1/6, the variance of the sum: always saying 1."""
        return 1 / 6

    @property
    def draws(self) -> int:
        """One a number, and one a mark."""
        return self.length + 2

    def example(self, draw: Draw) -> Example:
        uniform = (draw >> np.uint64(11)) * 2.0**-53
        half = self.length // 2
        marked = [int(uniform[-2] * half), half + int(uniform[-1] * (self.length - half))]
        inputs = np.zeros((self.length, 2), np.float32)
        inputs[:, 0] = uniform[:-2]
        inputs[marked, 1] = 1.0
        return inputs, inputs[marked, 0].sum()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return mse_loss(outputs[:, -1, 0], targets)


PROBLEMS: dict[str, type[Problem]] = {"copying": Copying, "adding": Adding}


class Examples(torch.utils.data.Dataset[Example]):
    """Examples by number, each drawn from the seed, the stream and its number alone.

    Args:
        problem: what to draw.
        seed, stream: examples of different seeds or streams have nothing to do with each other.
        count: how many the set says it has; numbers beyond are drawn all the same.
    """

    def __init__(self, problem: Problem, seed: int, stream: int, count: int) -> None:
        self.problem, self.seed, self.stream, self.count = problem, seed, stream, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        # numpy promises a bit generator's raw numbers for ever, but not what its distributions make of them
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, self.stream, index]))
        return self.problem.example(np.asarray(bits.random_raw(self.problem.draws)))
