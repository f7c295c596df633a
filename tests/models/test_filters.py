"""The momentum filter against its equation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import FILTERS, Momentum, Registry


def step_by_step(u: torch.Tensor, state: torch.Tensor, mu: float, epsilon: float) -> torch.Tensor:
    outputs = []
    for u_t in u:
        state = mu * state + epsilon * u_t
        outputs.append(state)
    return torch.stack(outputs)


@settings(deadline=None, max_examples=50)
@given(
    time=st.integers(1, 1000),
    mu=st.floats(0.0, 0.999),
    epsilon=st.floats(0.01, 2.0),
    seed=st.integers(0, 2**31),
)
def test_scan_is_the_recurrence(time: int, mu: float, epsilon: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(time, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    fast = Momentum(mu, epsilon)(u, state)
    slow = step_by_step(u, state, mu, epsilon)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(fast, (u, state), upstream),
        torch.autograd.grad(slow, (u, state), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=25)
@given(time=st.integers(2, 300), cut=st.integers(1, 299), mu=st.floats(0.0, 0.999))
def test_chunked_is_whole(time: int, cut: int, mu: float) -> None:
    cut = min(cut, time - 1)
    u = torch.randn(time, 2, 3, generator=torch.Generator().manual_seed(time), dtype=torch.float64)
    momentum = Momentum(mu, 0.5)
    whole = momentum(u, torch.zeros(2, 3, dtype=torch.float64))
    first = momentum(u[:cut], torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(
        torch.cat([first, momentum(u[cut:], first[-1])]), whole, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("mu", "epsilon"), [(1.0, 0.6), (-0.1, 0.6), (float("nan"), 0.6), (0.6, 0.0), (0.6, -1.0)]
)
def test_out_of_range_is_refused(mu: float, epsilon: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Momentum(mu, epsilon)


def test_registry_names_what_it_knows() -> None:
    assert FILTERS["momentum"] is Momentum
    with pytest.raises(KeyError, match=r"no filter is called 'adagrad'; known: .*momentum"):
        FILTERS["adagrad"]


def test_registry_refuses_a_taken_name() -> None:
    registry: Registry[object] = Registry("thing")
    registry.register("int")(int)
    with pytest.raises(ValueError, match="thing 'int' is registered already, as int"):
        registry.register("int")(float)
