"""The orthogonal recurrence: its matrix, its bases, its parameters."""

import pytest
import torch

from models import DTRIV, AcceleratedRNN, MomentumDTRIV, orthogonal_parameters, rebase_


def distance(matrix: torch.Tensor) -> float:
    return float((matrix.T @ matrix - torch.eye(len(matrix), dtype=matrix.dtype)).abs().max())


def step(layer: AcceleratedRNN, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(0)
    optimizer.zero_grad()
    layer(torch.randn(9, 4, 3, dtype=torch.float64))[0].square().sum().backward()
    optimizer.step()


def test_it_starts_as_rotations_of_pairs() -> None:
    torch.manual_seed(0)
    layer = DTRIV(3, 7, bias=False)
    matrix = layer.weight_hh_l0.detach()
    assert distance(matrix) < 1e-6
    blocks = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2, 2), torch.ones(1, 1))
    assert not torch.any(matrix * (1 - blocks))
    assert matrix[0, 0] != matrix[2, 2]
    assert matrix[6, 6] == 1.0
    assert sorted(name for name, _ in layer.named_parameters()) == [
        "bias_modrelu_l0",
        "parametrizations.weight_hh_l0.original",
        "weight_ih_l0",
    ]
    assert layer.bias_modrelu_l0.abs().max() <= 0.01


def test_it_stays_orthogonal_while_it_is_trained_and_rebased() -> None:
    layer = MomentumDTRIV(3, 6, num_layers=2, bidirectional=True, dtype=torch.float64)
    optimizer = torch.optim.RMSprop(layer.parameters(), lr=0.05)
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    before = layer.weight_hh_l1_reverse.detach().clone()
    for number in range(20):
        step(layer, optimizer)
        y, _ = layer(x)
        rebase_(layer, project=number % 5 == 4)
        torch.testing.assert_close(layer(x)[0], y, rtol=1e-10, atol=1e-10)
        assert not any(p.tril(-1).any() for p in orthogonal_parameters(layer))
    after = layer.weight_hh_l1_reverse.detach()
    assert distance(after) < 1e-12
    assert not torch.allclose(before, after, atol=0.01)


def test_rebasing_changes_the_path_in_high_order_only() -> None:
    """Two steps in moved coordinates and in fixed ones differ, but only by a fourth power of the rate.

    They differ by the commutator of the steps, and two gradients a small step apart are nearly parallel.
    """
    torch.manual_seed(0)
    start = MomentumDTRIV(3, 6, dtype=torch.float64)
    apart = []
    for rate in (1e-5, 5e-6):
        matrices = []
        for rebases in (True, False):
            layer = MomentumDTRIV(3, 6, dtype=torch.float64)
            layer.load_state_dict(start.state_dict())
            rebase_(layer)
            optimizer = torch.optim.SGD(orthogonal_parameters(layer), lr=rate)
            for _ in range(2):
                step(layer, optimizer)
                if rebases:
                    rebase_(layer)
            matrices.append(layer.weight_hh_l0.detach())
        apart.append(float((matrices[0] - matrices[1]).norm()))
    assert apart[0] > 1e-12
    assert 13.0 < apart[0] / apart[1] < 19.0


def test_projection_takes_rounding_away() -> None:
    layer = DTRIV(3, 6, dtype=torch.float64)
    base = next(value for name, value in layer.named_buffers() if name.endswith("base"))
    base += 1e-10 * torch.randn(6, 6, dtype=torch.float64)
    assert distance(layer.weight_hh_l0.detach()) > 1e-11
    rebase_(layer, project=True)
    assert distance(layer.weight_hh_l0.detach()) < 1e-14


def test_its_parameters_can_have_a_learning_rate_of_their_own() -> None:
    layer = MomentumDTRIV(3, 6, num_layers=2)
    found = orthogonal_parameters(torch.nn.Sequential(torch.nn.Linear(2, 3), layer))
    assert [p.shape for p in found] == [(6, 6), (6, 6)]
    assert {id(p) for p in found} < {id(p) for p in layer.parameters()}
    assert orthogonal_parameters(torch.nn.LSTM(2, 3)) == []


def test_a_matrix_that_is_not_orthogonal_cannot_get_in() -> None:
    layer = DTRIV(3, 4)
    with torch.no_grad():
        layer.weight_hh_l0 = torch.full((4, 4), 2.0) + torch.eye(4)
    assert distance(layer.weight_hh_l0.detach()) < 1e-5
    with pytest.raises(ValueError, match="Expected a matrix"):
        layer.weight_hh_l0 = torch.eye(5)


def test_fresh_parameters_start_at_the_identity_base() -> None:
    layer = DTRIV(3, 6)
    rebase_(layer)
    layer.reset_parameters()
    (base,) = (value for name, value in layer.named_buffers() if name.endswith("base"))
    assert torch.equal(base, torch.eye(6))
