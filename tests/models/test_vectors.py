"""Every cell against the numbers of the authors' published code: outputs and all gradients, in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.linalg import expm_frechet, logm

from models import (
    DTRIV,
    AcceleratedRNN,
    AdamDTRIV,
    AdamLSTM,
    MomentumDTRIV,
    MomentumLSTM,
    NesterovDTRIV,
    NesterovLSTM,
    RMSPropLSTM,
    unroll,
)

VECTORS = Path(__file__).parents[1] / "fixtures" / "vectors"
TOLERANCE = 1e-8
LSTM_NAMES = {
    "weight_ih": "x2h.weight",
    "bias_ih": "x2h.bias",
    "weight_hh": "h2h.weight",
    "bias_hh": "h2h.bias",
}

Vectors = dict[str, npt.NDArray[np.float64]]

LSTMS: dict[str, Callable[..., AcceleratedRNN]] = {
    "lstm": lambda _, **o: MomentumLSTM(5, 7, mu=0.0, epsilon=1.0, **o),
    "momentum_lstm": lambda v, **o: MomentumLSTM(5, 7, mu=v["mu"], epsilon=v["epsilon"], **o),
    "adam_lstm": lambda v, **o: AdamLSTM(5, 7, mu=v["mu"], epsilon=v["epsilon"], beta=v["beta"], **o),
    "rmsprop_lstm": lambda v, **o: RMSPropLSTM(5, 7, epsilon=v["epsilon"], beta=v["beta"], **o),
}
ORTHOGONAL: dict[str, Callable[..., AcceleratedRNN]] = {
    "dtriv": lambda _, **o: DTRIV(5, 7, bias=False, **o),
    "momentum_dtriv": lambda v, **o: MomentumDTRIV(5, 7, bias=False, mu=v["mu"], epsilon=v["epsilon"], **o),
    "nesterov_dtriv": lambda v, **o: NesterovDTRIV(
        5, 7, bias=False, epsilon=v["epsilon"], restart=int(v["restart"]), **o
    ),
    "adam_dtriv": lambda v, **o: AdamDTRIV(
        5, 7, bias=False, mu=v["mu"], epsilon=v["epsilon"], beta=v["beta"], **o
    ),
}


def load(name: str) -> Vectors:
    with np.load(VECTORS / f"{name}.npz") as file:
        return {key: file[key] if file[key].ndim else float(file[key]) for key in file}


def run(layer: AcceleratedRNN, v: Vectors, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs, and the input with its gradient."""
    x = torch.from_numpy(v["x"]).requires_grad_()
    if kind == "reference":
        y = torch.stack(unroll(layer, x.transpose(0, 1)), dim=1)
    else:
        y, _ = layer(x)
    y.backward(torch.from_numpy(v["dy"]))
    return y.detach(), x


def close(pairs: dict[str, tuple[Any, Any]]) -> None:
    for what, (actual, wanted) in pairs.items():
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=TOLERANCE, err_msg=what)


def test_every_published_cell_is_tried() -> None:
    tried = {*LSTMS, *ORTHOGONAL, "nesterov_lstm_extrapolated"}
    assert {path.stem for path in VECTORS.glob("*.npz")} == tried


@pytest.mark.parametrize("kind", ["fast", "reference"])
@pytest.mark.parametrize("name", LSTMS)
def test_lstms(name: str, kind: str, either_way: str) -> None:
    del either_way
    v = load(name)
    layer = LSTMS[name](v, batch_first=True, dtype=torch.float64)
    layer.load_state_dict({f"{o}_l0": torch.from_numpy(v[f"param/{t}"]) for o, t in LSTM_NAMES.items()})
    y, x = run(layer, v, kind)
    gradients = {o: (layer.get_parameter(f"{o}_l0").grad, v[f"grad/{t}"]) for o, t in LSTM_NAMES.items()}
    close({"y": (y, v["y"]), "dx": (x.grad, v["dx"]), **gradients})


@pytest.mark.parametrize("kind", ["fast", "reference"])
@pytest.mark.parametrize("name", ORTHOGONAL)
def test_orthogonal_networks(name: str, kind: str, either_way: str) -> None:
    del either_way
    v = load(name)
    layer = ORTHOGONAL[name](v, batch_first=True, dtype=torch.float64)
    matrix = torch.from_numpy(v["recurrent_matrix"])
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").copy_(torch.from_numpy(v["param/input_kernel.weight"]))
        layer.get_parameter("bias_modrelu_l0").copy_(torch.from_numpy(v["param/nonlinearity.b"]))
        layer.weight_hh_l0 = matrix
    y, x = run(layer, v, kind)
    close(
        {
            "y": (y, v["y"]),
            "dx": (x.grad, v["dx"]),
            "input weights": (layer.get_parameter("weight_ih_l0").grad, v["grad/input_kernel.weight"]),
            "thresholds": (layer.get_parameter("bias_modrelu_l0").grad, v["grad/nonlinearity.b"]),
        }
    )
    # The gradient G of the matrix B: ours is that of A in B exp(A) at A = 0.
    (parametrization,) = (p for n, p in layer.named_parameters() if n.endswith("original"))
    assert parametrization.grad is not None
    skew = parametrization.grad - parametrization.grad.T
    # The published number was taken while the base was being moved: base B already, exp still at A = log B.
    product = matrix.T @ gradient_of_matrix(layer, v, kind)
    close({"gradient of A": (skew, product - product.T)})
    _, published = expm_frechet(logm(matrix.numpy()).real.T, product.numpy())
    close({"published": (np.triu(published - published.T, 1), v["grad/recurrent_kernel.A"])})


def gradient_of_matrix(layer: AcceleratedRNN, v: Vectors, kind: str) -> torch.Tensor:
    """dL/dB with the recurrent matrix as a free parameter."""
    free = layer.layer_weights("_l0")["weight_hh"].detach().clone().requires_grad_()
    weights = layer.layer_weights("_l0") | {"weight_hh": free}
    layer.layer_weights = lambda _: dict(weights)  # type: ignore[method-assign]
    run(layer, v, kind)
    assert free.grad is not None
    return free.grad


def test_nesterov_lstm_is_the_papers_and_not_the_authors_codes() -> None:
    """Their LSTM code extrapolates the recurrent product too:
    z = R h - epsilon u, gates = z + k / (k + 3) (z - its predecessor).
    """
    v = load("nesterov_lstm_extrapolated")
    layer = NesterovLSTM(5, 7, epsilon=v["epsilon"], restart=int(v["restart"]), dtype=torch.float64)
    layer.load_state_dict({f"{o}_l0": torch.from_numpy(v[f"param/{t}"]) for o, t in LSTM_NAMES.items()})
    weights = layer.layer_weights("_l0")
    x = torch.from_numpy(v["x"]).transpose(0, 1)
    h, c, before = torch.zeros(3, 7).double(), torch.zeros(3, 7).double(), torch.zeros(3, 28).double()
    outputs = []
    for t, x_t in enumerate(x):
        k = t % int(v["restart"])
        u = torch.nn.functional.linear(x_t, weights["weight_ih"], weights["bias_ih"])
        z = torch.nn.functional.linear(h, weights["weight_hh"], weights["bias_hh"]) - v["epsilon"] * u
        gates = z + k / (k + 3) * (z - before)
        # the cell adds the recurrent product by itself: take it out again
        drive = gates - torch.nn.functional.linear(h, weights["weight_hh"], weights["bias_hh"])
        h, c = layer.recurrence.step(drive, (h, c), weights)
        outputs.append(h)
        before = z
    close({"theirs": (torch.stack(outputs, dim=1).detach(), v["y"])})
    ours, _ = layer(x)
    assert not np.allclose(ours.detach().transpose(0, 1), v["y"], atol=1e-3)
