"""The literal step-by-step networks: slow, plain, and what the fast paths are held to."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import linear

from models.accelerated import AcceleratedRNN


def unroll(rnn: AcceleratedRNN, x: Tensor, suffix: str = "_l0") -> list[Tensor]:
    """One layer and direction as the papers write it: project a step's input, filter the drive, step the
    cell.

        u_t = weight_ih x_t + bias_ih
        d_t = filter(u_t)
        h_t = recurrence(d_t, h_{t-1})

    Nothing is fused, nothing reordered: `Filter.step` and `Recurrence.step` are the equations. From the
    start.

    Args:
        rnn: whose parameters, filter and recurrence to use.
        x: [time, batch, inputs].
        suffix: which layer and direction.

    Returns:
        Every hidden state, each [batch, units], in a list so that gradients can be asked for step by step.
    """
    weights = rnn.layer_weights(suffix)
    weight_ih, bias_ih = weights.pop("weight_ih"), weights.pop("bias_ih", None)
    sizes = rnn.state_sizes() | rnn.filter.state_sizes(len(weight_ih))
    state = [x.new_zeros(x.shape[1], width) for width in sizes.values()]
    count = len(rnn.recurrence.states)
    recurrent, filtered = tuple(state[:count]), tuple(state[count:])
    outputs = []
    for x_t in x:
        u = linear(x_t, weight_ih, bias_ih)
        drive, filtered = rnn.filter.step(u, filtered)
        recurrent = rnn.recurrence.step(drive, recurrent, weights)
        outputs.append(recurrent[0])
    return outputs
