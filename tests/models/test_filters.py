"""Every registered filter against its own equation, step by step."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import FILTERS, Adam, Filter, Momentum, Nesterov, Registry, RMSProp
from models.filters.scan import scan

rates = st.floats(0.05, 2.0)
decays = st.floats(0.0, 0.999)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(sorted(FILTERS)))
    learnable = draw(st.booleans())
    options: dict[str, Any] = {
        "identity": {},
        "momentum": {"mu": draw(decays), "epsilon": draw(rates), "learnable": learnable},
        "nesterov": {
            "epsilon": draw(rates),
            "restart": draw(st.none() | st.integers(1, 60)),
            "learnable": learnable,
        },
        "adam": {"mu": draw(decays), "epsilon": draw(rates), "beta": draw(decays), "learnable": learnable},
        "rmsprop": {"epsilon": draw(rates), "beta": draw(decays), "learnable": learnable},
    }[name]
    if learnable and "mu" in options:
        options["mu"] = max(options["mu"], 0.01)
    return FILTERS[name](**options).double()


def start(filter_: Filter, batch: int, channels: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """A state as it may stand in the middle of a stream."""
    state = {
        name: torch.rand(batch, size, generator=generator, dtype=torch.float64)
        for name, size in filter_.state_sizes(channels).items()
    }
    if isinstance(filter_, Nesterov):
        state["k"] = torch.randint(0, filter_.restart or 100, (batch, 1), generator=generator).double()
    # k counts: it has no gradient
    return tuple(value.requires_grad_(name != "k") for name, value in state.items())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    filter_=filters(),
    time=st.integers(1, 200),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
    ragged=st.booleans(),
)
def test_forward_is_step_by_step(
    filter_: Filter, time: int, batch: int, seed: int, ragged: bool, either_way: str
) -> None:
    del either_way
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(time, batch, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    state = start(filter_, batch, 4, generator)
    lengths = torch.randint(1, time + 1, (batch,), generator=generator) if ragged else None
    fast, after = filter_(u, state, lengths)
    slow, expected = Filter.forward(filter_, u, state, lengths)
    counts = torch.arange(time).unsqueeze(1) < (torch.full((batch,), time) if lengths is None else lengths)
    fast, slow = (torch.where(counts.unsqueeze(-1), y, 0.0) for y in (fast, slow))
    torch.testing.assert_close((fast, after), (slow, expected), rtol=1e-9, atol=1e-9)
    inputs = [u, *(s for s in state if s.requires_grad), *filter_.parameters()]
    gradients = []
    for outputs in ((fast, *after), (slow, *expected)):
        generator.manual_seed(seed)
        loss = sum((torch.randn(y.shape, generator=generator, dtype=y.dtype) * y).sum() for y in outputs)
        gradients.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-7)


@settings(max_examples=40)
@given(filter_=filters(), time=st.integers(2, 200), cut=st.integers(1, 199))
def test_chunked_is_whole(filter_: Filter, time: int, cut: int) -> None:
    cut = min(cut, time - 1)
    u = torch.randn(time, 2, 3, generator=torch.Generator().manual_seed(time), dtype=torch.float64)
    zeros = tuple(torch.zeros(2, n, dtype=torch.float64) for n in filter_.state_sizes(3).values())
    whole, last = filter_(u, zeros)
    first, state = filter_(u[:cut], zeros)
    second, state = filter_(u[cut:], state)
    torch.testing.assert_close((torch.cat([first, second]), state), (whole, last), rtol=1e-9, atol=1e-9)


def test_the_scan_is_exact_however_long_the_memory() -> None:
    u = torch.randn(5000, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, v = [], torch.ones(1, 2, dtype=torch.float64)
    for u_t in u:
        v = 0.9999 * v + u_t
        expected.append(v)
    actual = scan(u, torch.ones(1, 2, dtype=torch.float64), 0.9999)
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Momentum(mu=1.0), r"mu must be in \[0, 1\), got 1.0"),
        (lambda: Momentum(mu=-0.1), "mu must be in"),
        (lambda: Momentum(mu=float("nan")), "mu must be in"),
        (lambda: Momentum(mu=0.0, learnable=True), r"a learnable mu must be in \(0, 1\), got 0"),
        (lambda: Momentum(epsilon=0.0), "epsilon must be positive, got 0.0"),
        (lambda: Momentum(epsilon=float("inf")), "epsilon must be positive"),
        (lambda: Adam(beta=1.0), "beta must be in"),
        (lambda: RMSProp(epsilon=-1.0), "epsilon must be positive"),
        (lambda: Nesterov(restart=0), "restart must be at least 1 step, or None for never, got 0"),
    ],
)
def test_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_learnable_rates_stay_in_range() -> None:
    filter_ = Adam(mu=0.9, epsilon=0.01, learnable=True)
    assert (filter_.mu.item(), filter_.epsilon.item()) == pytest.approx((0.9, 0.01))
    optimizer = torch.optim.SGD(filter_.parameters(), lr=3.0)
    for direction in (1.0, -1.0):
        for _ in range(5):
            optimizer.zero_grad()
            (direction * (filter_.mu + filter_.epsilon)).backward()
            optimizer.step()
        assert 0.0 < filter_.mu.item() < 1.0
        assert filter_.epsilon.item() > 0.0
    assert not list(Adam().parameters())
    with pytest.raises(ValueError, match=r"expected a value in \(0, 1\)"):
        filter_.mu = torch.tensor(1.5)
    with pytest.raises(ValueError, match="expected a positive value"):
        filter_.epsilon = torch.tensor(-1.0)


def test_registry_names_what_it_knows() -> None:
    assert FILTERS["momentum"] is Momentum
    with pytest.raises(KeyError, match=r"no filter is called 'adagrad'; known: .*momentum"):
        FILTERS["adagrad"]


def test_registry_refuses_a_taken_name() -> None:
    registry: Registry[object] = Registry("thing")
    registry.register("int")(int)
    with pytest.raises(ValueError, match="thing 'int' is registered already, as int"):
        registry.register("int")(float)
