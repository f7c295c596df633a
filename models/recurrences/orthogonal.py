"""The orthogonal recurrence (DTRIV)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from models.recurrences.base import RECURRENCES, State, Weights
from models.recurrences.fused import FusedRecurrence


@RECURRENCES.register("orthogonal")
class Orthogonal(FusedRecurrence):
    """`h_t = modReLU(d_t + h_{t-1} weight_hh)` with `weight_hh` orthogonal, d being the drive and
    `modReLU(z) = sign(z) relu(|z| + b)` with the learnable b called `bias_modrelu`.

    The hidden state stands on the left, as its authors have it and unlike torch's networks. The matrix is
    `base exp(A)` with a skew-symmetric A that is trained, and a base that `rebase_` may move.

    Source: Lezcano-Casado, "Trivializations for Gradient-Based Optimization on Manifolds" (NeurIPS 2019);
    Arjovsky, Shah, Bengio, "Unitary Evolution Recurrent Neural Networks" (ICML 2016) for modReLU.
    """

    kernel = "orthogonal"
    bias = "bias_modrelu"

    @classmethod
    def shapes(cls, hidden_size: int, output_size: int, bias: bool) -> dict[str, tuple[int, ...]]:
        del bias  # the threshold is part of the nonlinearity: without it there would be none
        return {"weight_hh": (hidden_size, output_size), "bias_modrelu": (hidden_size,)}

    @classmethod
    def reset_(cls, module: nn.Module, names: Mapping[str, str], hidden_size: int) -> None:
        """Input weights Kaiming normal, input bias 0, thresholds U(-0.01, 0.01), A in blocks of 2 x 2
        rotations (Helfrich, Willmott, Ye, "Orthogonal Recurrent Neural Networks with Scaled Cayley
        Transform", ICML 2018), base the identity.
        """
        nn.init.kaiming_normal_(module.get_parameter(names["weight_ih"]), nonlinearity="relu")
        if "bias_ih" in names:
            nn.init.zeros_(module.get_parameter(names["bias_ih"]))
        nn.init.uniform_(module.get_parameter(names["bias_modrelu"]), -0.01, 0.01)
        name = names["weight_hh"]
        if not is_parametrized(module, name):
            nn.init.eye_(module.get_parameter(name))
            orthogonal(module, name, "matrix_exp", use_trivialization=True)
        (parametrization,) = (p for _, found, p in _orthogonal_weights(module) if found == name)
        with torch.no_grad():
            nn.init.eye_(parametrization[0].get_buffer("base"))
            a = parametrization.get_parameter("original").zero_()
            angle = torch.empty(hidden_size // 2).uniform_(0.0, math.pi / 2)
            rows = 2 * torch.arange(hidden_size // 2, device=a.device)
            a[rows + 1, rows] = (angle / 2).tan().to(a)

    @classmethod
    def matrix(cls, weights: Weights) -> Tensor:
        return weights["weight_hh"].T

    @staticmethod
    def step(drive: Tensor, state: State, weights: Weights) -> State:
        z = drive + state[0] @ weights["weight_hh"]
        return (torch.sign(z) * torch.relu(torch.abs(z) + weights["bias_modrelu"]),)


def _orthogonal_weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, ParametrizationList]]:
    for child in module.modules():
        lists = getattr(child, "parametrizations", None)
        for name, parametrization in lists.items() if isinstance(lists, nn.ModuleDict) else ():
            if isinstance(parametrization, ParametrizationList) and hasattr(parametrization[0], "base"):
                yield child, name, parametrization


def orthogonal_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters A behind the orthogonal matrices of a network: they usually get a learning rate of
    their own.
    """
    return [found.get_parameter("original") for _, _, found in _orthogonal_weights(module)]


@torch.no_grad()
def rebase_(module: nn.Module, project: bool = False) -> None:
    """Move the base of every orthogonal matrix of a network to the matrix itself, and A to 0.

    The matrices stay what they are; around A = 0 the gradient is the manifold's own.

    Args:
        module: the network.
        project: also replace each matrix by the nearest orthogonal one, which takes away accumulated
            rounding.

    Source: Lezcano-Casado 2019, dynamic trivializations (DTRIV); K there is how many optimizer steps lie
    between two calls.
    """
    for child, name, parametrization in _orthogonal_weights(module):
        matrix = parametrization()
        if project:
            u, _, v = torch.linalg.svd(matrix)
            matrix = u @ v
        setattr(child, name, matrix)
