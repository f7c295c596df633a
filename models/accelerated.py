"""`AcceleratedRNN`: any registered filter in front of any registered recurrence."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.filters import FILTERS
from models.kernels import project
from models.recurrences import RECURRENCES

State = tuple[Tensor, ...]


class AcceleratedRNN(nn.Module):
    """Layers of `input -> filter over time -> unchanged recurrence`, with the signature of `torch.nn.LSTM`.

    The filter acts on the drive `weight_ih x_t + bias_ih`. A linear one commutes with that projection, so it
    runs on `[x_t ; 1]` and the recurrence reads the result with the input weights `[weight_ih , bias_ih]`.

    Args:
        filter: name of a registered filter.
        recurrence: name of a registered recurrence.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as in `torch.nn.LSTM`.
        proj_size, device, dtype: as in `torch.nn.LSTM`. Parameters have its names, shapes and initialisation;
            an orthogonal recurrence has its own.
        filter_options: keyword arguments of the filter's class, such as `{"mu": 0.6, "epsilon": 0.6}`.

    Raises:
        KeyError: filter or recurrence is not registered.
        ValueError: a size or probability is out of range, or the recurrence has no projection.
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
        rates = dtype or torch.get_default_dtype()
        self.filter = FILTERS[filter](**(filter_options or {})).to(device=device, dtype=rates)
        self.recurrence = RECURRENCES[recurrence]
        if proj_size and not self.recurrence.projects:
            raise ValueError(f"proj_size is for LSTMs; the recurrence {recurrence!r} has no projection")
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
            recurrent = self.recurrence.shapes(hidden_size, self.output_size, bias)
            # in torch's order: weight_ih, weight_hh, bias_ih, ...
            shapes = {"weight_ih": (rows, self.layer_input_size(layer)), "weight_hh": recurrent["weight_hh"]}
            shapes |= ({"bias_ih": (rows,)} if bias else {}) | recurrent
            self._names = tuple(shapes)  # those of every layer
            for suffix in self.suffixes(layer):
                for name, shape in shapes.items():
                    empty = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name + suffix, nn.Parameter(empty))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter of the layers anew, as their recurrence has it."""
        for layer in range(self.num_layers):
            for suffix in self.suffixes(layer):
                names = {name: name + suffix for name in self._names}
                self.recurrence.reset_(self, names, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing to do: each call joins weights and bias anew. There for code written for
        `torch.nn.LSTM`.
        """

    def layer_input_size(self, layer: int) -> int:
        """Width of what layer number `layer` reads."""
        return self.input_size if layer == 0 else self.directions * self.output_size

    def state_sizes(self) -> dict[str, int]:
        """Name and width of each state, in the order of `forward`'s tuple."""
        if self.filter.linear:
            channels = max(self.layer_input_size(layer) for layer in range(self.num_layers)) + int(self.bias)
        else:
            channels = self.recurrence.gates * self.hidden_size
        recurrent = dict.fromkeys(self.recurrence.states, self.hidden_size)
        return recurrent | {"h": self.output_size} | self.filter.state_sizes(channels)

    def suffixes(self, layer: int) -> list[str]:
        """What the names of layer number `layer`'s parameters end with, one for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Any, State]:  # noqa: A002
        """Run all layers over a sequence.

        Args:
            input: [time, batch, input_size], [batch, time, input_size] with `batch_first`, [time, input_size]
                unbatched, or a PackedSequence.
            hx: the state to start from, as returned: the recurrence's states and then the filter's, such as
                `(h, c, m)`; or the recurrence's alone, with a filter that starts anew. Default zeros. Each is
                [num_layers * directions, batch, width] with the widths of `state_sizes`, padded with zeros
                where a layer is narrower; without a batch dimension if `input` has none.

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
            y, state = self._run(padded, state, lengths)
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

    def _initial_state(self, x: Tensor, hx: State | None, order: Tensor | None = None) -> State:
        sizes, rows = self.state_sizes(), (self.num_layers * self.directions, x.shape[1])
        given = tuple(hx) if hx is not None else ()
        needed = len(self.recurrence.states)
        if hx is not None and len(given) not in (needed, len(sizes)):
            raise ValueError(
                f"expected the state ({', '.join(sizes)}), or ({', '.join(self.recurrence.states)}) alone, "
                f"got {len(given)} tensors"
            )
        for (name, width), tensor in zip(sizes.items(), given, strict=False):
            if tuple(tensor.shape) != (*rows, width):
                raise ValueError(f"expected state {name} of shape {[*rows, width]}, got {list(tensor.shape)}")
        dtype = self._like.dtype
        zeros = tuple(x.new_zeros(*rows, width, dtype=dtype) for width in list(sizes.values())[len(given) :])
        return _permute(given, order) + zeros

    def _run(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """All layers over padded, time-first `x`, rows sorted by falling length if lengths are given."""
        # filters and states have the parameters' precision, whatever autocast made of the input
        dtype = self._like.dtype
        x, state = x.to(dtype), tuple(s.to(dtype) for s in state)
        if x.is_cpu and torch.is_autocast_enabled("cpu"):  # nothing here is faster in bfloat16
            with torch.autocast("cpu", enabled=False):
                return self._run(x, state, lengths)
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                x = dropout(x, self.dropout, self.training)
            outputs = []
            for direction, suffix in enumerate(self.suffixes(layer)):
                row = layer * self.directions + direction
                y = _reverse(x, lengths) if direction else x
                y, new = self._layer(y, tuple(s[row] for s in state), suffix, lengths)
                outputs.append(_reverse(y, lengths) if direction else y)
                last.append(new)
            x = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0]
        return x, tuple(torch.stack(rows) for rows in zip(*last, strict=True))

    def _layer(self, x: Tensor, state: State, suffix: str, lengths: Tensor | None) -> tuple[Tensor, State]:
        weights = self.layer_weights(suffix)
        weight_ih = weights.pop("weight_ih")
        if self.bias:
            x = pad(x, (0, 1), value=1.0)
            weight_ih = torch.cat([weight_ih, weights.pop("bias_ih").unsqueeze(1)], dim=1)
        count = len(self.recurrence.states)
        recurrent, filtered = state[:count], state[count:]
        if self.filter.linear:
            sizes = list(self.filter.state_sizes(x.shape[-1]).values())
            narrow = tuple(s[:, :size] for s, size in zip(filtered, sizes, strict=True))
            x, after = self.filter(x, narrow, lengths)
            after = tuple(
                pad(s, (0, old.shape[1] - s.shape[1])) for s, old in zip(after, filtered, strict=True)
            )
            y, recurrent = self.recurrence.project_and_run(x, weight_ih, lengths, recurrent, weights)
        else:
            drive, after = self.filter(project(x, weight_ih).to(weight_ih.dtype), filtered, lengths)
            y, recurrent = self.recurrence.run(drive, lengths, recurrent, weights)
        return y, (*recurrent, *after)

    @property
    def _like(self) -> Tensor:
        return self.get_parameter("weight_ih_l0")

    def layer_weights(self, suffix: str) -> dict[str, Tensor]:
        """The parameters of one layer and direction, by torch's names without the suffix."""
        # a matrix is orthogonal in the parameters' precision, not in autocast's
        with torch.autocast(self._like.device.type, enabled=False):
            return {name: getattr(self, name + suffix) for name in self._names}

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
