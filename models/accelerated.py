"""`AcceleratedRNN`: any registered filter in front of any registered recurrence."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.filters import FILTERS
from models.recurrences import RECURRENCES

State = tuple[Tensor, ...]


class AcceleratedRNN(nn.Module):
    """Layers of `input -> filter over time -> unchanged recurrence`, with the signature of `torch.nn.LSTM`.

    The filter acts on the drive `weight_ih x_t + bias_ih`. Being linear it commutes with that projection, so
    it runs on `[x_t ; 1]` and the recurrence reads the result with the input weights `[weight_ih , bias_ih]`.

    Args:
        filter: name of a registered filter.
        recurrence: name of a registered recurrence.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as in `torch.nn.LSTM`.
        proj_size, device, dtype: as in `torch.nn.LSTM`. Parameters have its names, shapes and initialisation.
        filter_options: keyword arguments of the filter's class, such as `{"mu": 0.6, "epsilon": 0.6}`.

    Raises:
        KeyError: filter or recurrence is not registered.
        ValueError: a size or probability is out of range, or the filter is not linear.
    """

    def __init__(
        self,
        filter: str,  # noqa: A002  the concept's name throughout the project
        recurrence: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        filter_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout must be in [0, 1], got {dropout}")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"proj_size must be in [0, hidden_size), got {proj_size} with hidden_size {hidden_size}"
            )
        if dropout and num_layers == 1:
            warnings.warn(f"dropout={dropout} acts between layers, and there is only one", stacklevel=2)
        self.filter = FILTERS[filter](**(filter_options or {}))
        if not self.filter.linear:
            raise ValueError(f"the filter {filter!r} is not linear: it cannot run in front of the projection")
        self.recurrence = RECURRENCES[recurrence]
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.directions = 2 if bidirectional else 1
        self.output_size = proj_size or hidden_size
        rows = self.recurrence.gates * hidden_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, self.layer_input_size(layer)),
                    "weight_hh": (rows, self.output_size),
                }
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes |= {"weight_hr": (proj_size, hidden_size)}
                for name, shape in shapes.items():
                    self.register_parameter(
                        name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                    )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(hidden_size), 1/sqrt(hidden_size)), as `torch.nn.LSTM` does."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do: each call joins weights and bias anew. There for code written for
        `torch.nn.LSTM`.
        """

    def layer_input_size(self, layer: int) -> int:
        """Width of what layer number `layer` reads."""
        return self.input_size if layer == 0 else self.directions * self.output_size

    @property
    def filter_size(self) -> int:
        """Width of the filter's state: the widest layer input, and one for the bias's constant."""
        widest = max(self.layer_input_size(layer) for layer in range(self.num_layers))
        return widest + (1 if self.bias else 0)

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Any, State]:  # noqa: A002
        """Run all layers over a sequence.

        Args:
            input: [time, batch, input_size], [batch, time, input_size] with `batch_first`, [time, input_size]
                unbatched, or a PackedSequence.
            hx: the state to start from, `(h, c, m)` as returned, or `(h, c)` with a filter that starts anew.
                Default zeros.
                h: [num_layers * directions, batch, proj_size or hidden_size]; c: [.., batch, hidden_size];
                m: [.., batch, filter_size], the filtered inputs, a narrower layer's padded with zeros.
                Without a batch dimension if `input` has none.

        Returns:
            The outputs, laid out as `input` with `directions * (proj_size or hidden_size)` channels, and the
            last state.

        Raises:
            ValueError: a shape does not fit.
        """
        if isinstance(input, PackedSequence):
            if input.data.shape[-1] != self.input_size:
                raise ValueError(
                    f"expected packed data of width {self.input_size}, got {list(input.data.shape)}"
                )
            padded, lengths = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))
            state = self._initial_state(padded, hx, input.sorted_indices)
            y, state = self._run(padded, state, lengths, input.batch_sizes)
            data = pack_padded_sequence(y, lengths).data
            packed = PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            return packed, _permute(state, input.unsorted_indices)
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"expected an input of shape [time, {self.input_size}] or "
                f"{'[batch, time,' if self.batch_first else '[time, batch,'} {self.input_size}], "
                f"got {list(input.shape)}"
            )
        batched = input.dim() == 3
        x = (input.transpose(0, 1) if self.batch_first else input) if batched else input.unsqueeze(1)
        if len(x) == 0:
            raise ValueError("expected at least one time step, got none")
        if not batched:
            if hx is not None:
                if any(s.dim() != 2 for s in hx):
                    raise ValueError("expected states of 2 dimensions, as the input has no batch dimension")
                hx = tuple(s.unsqueeze(1) for s in hx)
            y, state = self._run(x, self._initial_state(x, hx))
            return y.squeeze(1), tuple(s.squeeze(1) for s in state)
        y, state = self._run(x, self._initial_state(x, hx))
        return y.transpose(0, 1) if self.batch_first else y, state

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _initial_state(self, x: Tensor, hx: State | None, order: Tensor | None = None) -> State:
        rows, batch = self.num_layers * self.directions, x.shape[1]
        widths = (
            [self.output_size] + [self.hidden_size] * (len(self.recurrence.states) - 1) + [self.filter_size]
        )
        shapes = [(rows, batch, width) for width in widths]
        names = [*self.recurrence.states, "m"]
        given = tuple(hx) if hx is not None else ()
        if hx is not None and len(given) not in (len(names) - 1, len(names)):
            raise ValueError(
                f"expected the state ({', '.join(names)}), the last optional, got {len(given)} tensors"
            )
        for name, shape, tensor in zip(names, shapes, given, strict=False):
            if tuple(tensor.shape) != shape:
                raise ValueError(f"expected state {name} of shape {list(shape)}, got {list(tensor.shape)}")
        zeros = tuple(x.new_zeros(shape) for shape in shapes[len(given) :])
        return _permute(given, order) + zeros

    def _run(
        self, x: Tensor, state: State, lengths: Tensor | None = None, batch_sizes: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """All layers over padded, time-first `x`, rows sorted by falling length if lengths are given."""
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                x = dropout(x, self.dropout, self.training)
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                row = layer * self.directions + direction
                y = _reverse(x, lengths) if direction else x
                y, new = self._layer(y, tuple(s[row : row + 1] for s in state), suffix, lengths, batch_sizes)
                outputs.append(_reverse(y, lengths) if direction else y)
                last.append(new)
            x = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0]
        return x, tuple(torch.cat(rows) for rows in zip(*last, strict=True))

    def _layer(
        self, x: Tensor, state: State, suffix: str, lengths: Tensor | None, batch_sizes: Tensor | None
    ) -> tuple[Tensor, State]:
        weight_ih, weight_hh = getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix)
        if self.bias:
            x = pad(x, (0, 1), value=1.0)
            weight_ih = torch.cat([weight_ih, getattr(self, "bias_ih" + suffix).unsqueeze(1)], dim=1)
            bias_hh = getattr(self, "bias_hh" + suffix)
        else:
            bias_hh = weight_hh.new_zeros(len(weight_hh))
        weights = [weight_ih, weight_hh, torch.zeros_like(bias_hh), bias_hh]
        if self.proj_size:
            weights.append(getattr(self, "weight_hr" + suffix))
        width = x.shape[-1]
        v = self.filter(x, state[-1][0, :, :width])
        if lengths is None or batch_sizes is None:
            m = v[-1]
            y, new = self.recurrence.run(v, None, state[:-1], weights)
        else:
            m = v[lengths - 1, torch.arange(len(lengths))]
            data = pack_padded_sequence(v, lengths).data
            data, new = self.recurrence.run(data, batch_sizes, state[:-1], weights)
            y, _ = pad_packed_sequence(PackedSequence(data, batch_sizes))
        return y, (*new, pad(m, (0, self.filter_size - width)).unsqueeze(0))

    def extra_repr(self) -> str:
        options: dict[str, Any] = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        options |= {"bidirectional": False, "proj_size": 0}
        changed = "".join(
            f", {k}={getattr(self, k)}" for k, default in options.items() if getattr(self, k) != default
        )
        return f"{self.input_size}, {self.hidden_size}{changed}"


def _permute(state: State, order: Tensor | None) -> State:
    return state if order is None else tuple(s.index_select(1, order) for s in state)


def _reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse time; with lengths, each row within its own length, its padding left in place."""
    if lengths is None:
        return x.flip(0)
    time = torch.arange(len(x)).unsqueeze(1)
    index = torch.where(time < lengths, lengths - 1 - time, time).to(x.device)
    return x.gather(0, index.unsqueeze(-1).expand_as(x))
