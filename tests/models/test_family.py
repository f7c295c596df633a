"""Every registered filter with every registered recurrence, against the step-by-step reference."""

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from models import FILTERS, RECURRENCES, AcceleratedRNN, unroll

FAMILY = sorted(itertools.product(FILTERS, RECURRENCES))
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 2, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
]


def make(filter_: str, recurrence: str, **options: Any) -> AcceleratedRNN:
    torch.manual_seed(0)
    return AcceleratedRNN(filter_, recurrence, 3, 6, **({"dtype": torch.float64} | options))


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
def test_outputs_and_gradients_are_the_references(filter_: str, recurrence: str, either_way: str) -> None:
    del either_way
    for bias in (True, False):
        layer = make(filter_, recurrence, bias=bias)
        x = torch.randn(70, 4, 3, dtype=torch.float64, requires_grad=True)
        inputs = [x, *layer.parameters()]
        upstream = torch.randn(70, 4, 6, dtype=torch.float64)
        fast, slow = layer(x)[0], torch.stack(unroll(layer, x))
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
        gradients = [torch.autograd.grad((y * upstream).sum(), inputs) for y in (fast, slow)]
        torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.usefixtures("native")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sampled_from(FAMILY),
    time=st.integers(1, 300),
    batch=st.integers(1, 9),
    hidden=st.integers(2, 40),
    seed=st.integers(0, 2**31),
)
def test_float32_stays_near(names: tuple[str, str], time: int, batch: int, hidden: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = AcceleratedRNN(*names, 2, hidden)
    if names[1] == "orthogonal":  # where a threshold is positive, modReLU jumps
        torch.nn.init.uniform_(layer.get_parameter("bias_modrelu_l0"), -0.01, 0.0)
    x = torch.randn(time, batch, 2)
    y, _ = layer(x)
    exact = torch.stack(unroll(copy.deepcopy(layer).double(), x.double()))
    rounded = torch.stack(unroll(layer, x))
    # as near as PyTorch's own operators step by step, but for luck
    allowed = 1e-5 + 32 * (rounded - exact).abs().max()
    assert (y - exact).abs().max() <= allowed * max(1.0, exact.abs().max().item())


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_packed_is_each_sequence_alone(
    filter_: str, recurrence: str, options: dict[str, Any], either_way: str
) -> None:
    del either_way
    layer = make(filter_, recurrence, **options)
    sequences = [torch.randn(n, 3, dtype=torch.float64) for n in (3, 9, 1, 9)]
    shapes = layer(torch.zeros(4, 4, 3, dtype=torch.float64))[1]
    state = tuple(torch.rand_like(s) for s in shapes)
    if filter_ == "nesterov":
        state = (*state[:-1], torch.randint(0, 40, state[-1].shape).double())
    y, last = layer(pack_sequence(sequences, enforce_sorted=False), state)
    padded, lengths = pad_packed_sequence(y)
    for i, sequence in enumerate(sequences):
        alone, after = layer(sequence, tuple(s[:, i] for s in state))
        torch.testing.assert_close(padded[: lengths[i], i], alone, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(tuple(s[:, i] for s in last), after, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
def test_gradients_of_packed_input(filter_: str, recurrence: str, either_way: str) -> None:
    """Through the outputs and through the last states, which end at different times."""
    del either_way
    layer = make(filter_, recurrence, num_layers=2)
    sequences = [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (7, 2, 7, 1)]
    parameters = list(layer.parameters())
    y, last = layer(pack_sequence(sequences, enforce_sorted=False))
    loss = y.data.square().sum() + sum((s * (i + 1)).square().sum() for i, s in enumerate(last))
    packed = torch.autograd.grad(loss, [*sequences, *parameters])
    loss = torch.zeros((), dtype=torch.float64)
    for sequence in sequences:
        y, last = layer(sequence)
        loss = loss + y.square().sum() + sum((s * (i + 1)).square().sum() for i, s in enumerate(last))
    alone = torch.autograd.grad(loss, [*sequences, *parameters])
    torch.testing.assert_close(packed, alone, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_chunked_is_whole(filter_: str, recurrence: str, cut: int, either_way: str) -> None:
    del either_way
    layer = make(filter_, recurrence, num_layers=2)
    x = torch.randn(20, 3, 3, dtype=torch.float64)
    whole, last = layer(x)
    first, state = layer(x[:cut])
    second, state = layer(x[cut:], state)
    torch.testing.assert_close((torch.cat([first, second]), state), (whole, last), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
def test_states_are_as_wide_as_they_say(filter_: str, recurrence: str) -> None:
    layer = make(filter_, recurrence, num_layers=2, bidirectional=True)
    y, state = layer(torch.randn(5, 3, 3, dtype=torch.float64))
    assert y.shape == (5, 3, 12)
    sizes = layer.state_sizes()
    assert list(sizes) == [*layer.recurrence.states, *layer.filter.states]
    assert [list(s.shape) for s in state] == [[4, 3, size] for size in sizes.values()]
    with pytest.raises(ValueError, match=r"expected state h of shape \[4, 3, 6\], got \[4, 2, 6\]"):
        layer(torch.zeros(5, 3, 3, dtype=torch.float64), tuple(s[:, :2] for s in state))
    empty, _ = layer(torch.zeros(5, 0, 3, dtype=torch.float64))
    assert empty.shape == (5, 0, 12)


@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
def test_weights_travel_by_state_dict(filter_: str, recurrence: str) -> None:
    one, other = make(filter_, recurrence), make(filter_, recurrence)
    other.reset_parameters()
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    assert not torch.allclose(one(x)[0], other(x)[0])
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(x)[0], one(x)[0])
    assert torch.equal(copy.deepcopy(one)(x)[0], one(x)[0])
    assert one.to(torch.float32)(x.float())[0].dtype == torch.float32


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("filter_", FILTERS)
def test_nan_is_not_hidden(filter_: str, recurrence: str, either_way: str) -> None:
    del either_way
    layer = make(filter_, recurrence, dtype=torch.float32)
    x = torch.randn(6, 2, 3)
    x[2, 0, 1] = float("nan")
    y, _ = layer(x)
    assert y[2:, 0].isnan().all()
    assert not y[:2].isnan().any()
    assert not y[:, 1].isnan().any()


def test_autocast_on_the_cpu(either_way: str) -> None:
    del either_way
    for filter_, recurrence in FAMILY:
        layer = make(filter_, recurrence, dtype=torch.float32)
        x = torch.rand(6, 2, 3)
        for seen in (x, x.bfloat16()):  # as a layer before it would give it
            with torch.autocast("cpu", torch.bfloat16):
                y, _ = layer(seen)
            y.sum().backward()
            assert torch.equal(y, layer(seen.float())[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_filters_in_half_precision(dtype: torch.dtype) -> None:
    u = torch.tensor([0.0, 1e-4, 1.0, 200.0], dtype=dtype).repeat(500, 1, 1)
    for name, options in (("nesterov", {"restart": 40}), ("adam", {"beta": 0.5}), ("rmsprop", {"beta": 0.5})):
        filter_ = FILTERS[name](**options)
        start = tuple(torch.zeros(1, n) for n in filter_.state_sizes(4).values())
        half, _ = filter_(u, tuple(s.to(dtype) for s in start))
        exact, _ = filter_(u.float(), start)
        assert half.dtype == dtype
        torch.testing.assert_close(half[1:].float(), exact[1:], rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_small_numbers_keep_their_digits(recurrence: str, either_way: str) -> None:
    del either_way
    layer = AcceleratedRNN("identity", recurrence, 1, 4, bias=False)
    if recurrence == "orthogonal":
        torch.nn.init.zeros_(layer.get_parameter("bias_modrelu_l0"))
    x = torch.tensor([1e-8, 3e-8, 1e-6, 1e-3]).view(1, 4, 1)
    y, _ = layer(x)
    exact = torch.stack(unroll(copy.deepcopy(layer).double(), x.double()))
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0.0)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "names", [("momentum", "lstm"), ("adam", "lstm"), ("nesterov", "orthogonal"), ("rmsprop", "gru")]
)
def test_it_compiles_whole(names: tuple[str, str]) -> None:
    layer = make(*names, dtype=torch.float32)
    x = torch.randn(12, 3, 3, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = []
    for network in (layer, compiled):
        y, last = network(x)
        gradients.append(torch.autograd.grad(y.sum() + last[0].sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("filter_", "recurrence"), FAMILY)
def test_cuda_is_the_cpu(filter_: str, recurrence: str) -> None:
    layer = make(filter_, recurrence)
    x = torch.randn(20, 3, 3, dtype=torch.float64)
    expected, _ = layer(x)
    y, _ = layer.cuda()(x.cuda())
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-8, atol=1e-8)
    with torch.autocast("cuda"):
        half, _ = layer.float()(x.cuda().float())
    half.float().sum().backward()
    torch.testing.assert_close(half.double().cpu(), expected, rtol=0.1, atol=0.1)
