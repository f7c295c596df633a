"""The store: a folder of artifacts, <model>/<version>/model.onnx and card.json, and how one is checked and
loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exports.card import CARD_FILE, Card, CardError, StateSpec, TensorSpec
from service.engine import devices
from service.engine.binding import Session
from service.engine.devices import Device, DeviceError
from service.engine.tuning import Pace, measure

Tensor = NDArray[Any]

_ORT_TYPES = {
    "float32": "tensor(float)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "uint8": "tensor(uint8)",
}


class StoreError(Exception):
    """An artifact that must not be served; the message names the file, what was expected, and what to do."""


@dataclass(frozen=True, eq=False)
class Model:
    """A checked artifact and its onnxruntime session. On the CPU, `run` may be called from several threads at
    once.

    Attributes:
        paces: how many rows of which size run together fastest.
    """

    card: Card
    session: Session
    paces: tuple[Pace, ...] = (Pace(0, 1, 0.001),)

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """Run the graph in the calling thread, computing no more than `outputs` need.

        Args:
            inputs: a tensor for every input in the card; batch first. States left out start at zero.
            outputs: names of outputs or states' outputs.
        """
        batch = next(iter(inputs.values())).shape[0]
        feeds = {state.name: _zeros(state, batch) for state in self.card.states} | dict(inputs)
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        return dict(zip(outputs, self.session.run(list(outputs), feeds, options), strict=True))


def _zeros(state: StateSpec, batch: int) -> Tensor:
    # Only the first dimension, the batch, is dynamic.
    return np.zeros((batch, *(int(size) for size in state.shape[1:])), state.dtype)


def golden(model: Model) -> tuple[dict[str, Tensor], list[str]]:
    """The inputs of the card's golden pair, and the names of its outputs."""
    card = model.card
    dtypes: dict[str, str] = {spec.name: spec.dtype for spec in card.inputs}
    dtypes |= {state.name: state.dtype for state in card.states}
    inputs = {name: np.asarray(value, dtypes[name]) for name, value in card.golden.inputs.items()}
    return inputs, list(card.golden.outputs)


def load_model(
    folder: Path, paces: dict[str, tuple[Pace, ...]] | None = None, device: Device | None = None
) -> Model:
    """Load one artifact: check its file against the card, its graph against the card, replay the golden pair,
    and measure how it runs fastest.

    Args:
        folder: <model>/<version>.
        paces: by a graph's checksum, what has been measured before; what is measured now is added.
        device: what it is to run on, by default the CPUs.

    Raises:
        StoreError: any of that fails.
    """
    try:
        card = Card.read(folder / CARD_FILE)
    except CardError as error:
        raise StoreError(str(error)) from error
    if (card.name, card.version) != (folder.parent.name, folder.name):
        raise StoreError(
            f"{folder / CARD_FILE}: describes {card.name} version {card.version}, but lies in "
            f"{folder.parent.name}/{folder.name}; move the folder to {card.name}/{card.version}"
        )
    graph = folder / card.file.name
    device = device or devices.cpu()
    model = Model(card, _open_session(_read_graph(graph, card), graph, device))
    _check_signature(model, graph)
    _replay_golden(model, graph, device)
    paces = {} if paces is None else paces
    if card.file.sha256 not in paces:
        outputs = list(card.golden.outputs)
        paces[card.file.sha256] = measure(lambda inputs: model.run(inputs, outputs), card)
    return replace(model, paces=paces[card.file.sha256])


def _read_graph(path: Path, card: Card) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    if len(data) != card.file.bytes:
        raise StoreError(
            f"{path}: has {len(data)} bytes, the card says {card.file.bytes}; "
            "the file is incomplete or not the card's: copy the artifact or export the model again"
        )
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.file.sha256:
        raise StoreError(
            f"{path}: has SHA-256 {digest}, the card says {card.file.sha256}; "
            "the file was changed: copy the artifact or export the model again"
        )
    return data


def _open_session(graph: bytes, path: Path, device: Device) -> Session:
    try:
        return device.open(graph)
    except DeviceError as error:
        raise StoreError(f"{path}: {error}") from error
    except Exception as error:  # of a dozen kinds that have nothing else in common
        raise StoreError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot load it on {device.name} ({error}); "
            f"{_remedy(device)}"
        ) from error


def _remedy(device: Device) -> str:
    """What to do about a graph that does not run."""
    if device.name == "cpu":
        return "export the model again"
    return "if it runs with --device cpu, the GPU or its driver does not suit; else export the model again"


def _check_signature(model: Model, path: Path) -> None:
    card, session = model.card, model.session
    states = [TensorSpec(name=state.name, dtype=state.dtype, shape=state.shape) for state in card.states]
    outputs_of_states = [
        TensorSpec(name=state.output, dtype=state.dtype, shape=state.shape) for state in card.states
    ]
    for kind, expected, found in (
        ("input", [*card.inputs, *states], session.get_inputs()),
        ("output", [*card.outputs, *outputs_of_states], session.get_outputs()),
    ):
        says = {spec.name: (_ORT_TYPES[spec.dtype], spec.shape) for spec in expected}
        has = {tensor.name: (tensor.type, tensor.shape) for tensor in found}
        for name in says.keys() | has.keys():
            if name not in has or name not in says or not _agree(says[name], has[name]):
                raise StoreError(
                    f"{path}: {kind} {name!r}: the card says {says.get(name, 'there is none')}, "
                    f"the graph has {has.get(name, 'none')}; export the model again"
                )


def _agree(says: tuple[str, Sequence[int | str]], has: tuple[str, Sequence[int | str | None]]) -> bool:
    (says_type, says_shape), (has_type, has_shape) = says, has
    fixed = zip(says_shape, has_shape, strict=False)
    return (
        says_type == has_type
        and len(says_shape) == len(has_shape)
        and all(a == b for a, b in fixed if isinstance(a, int) and isinstance(b, int))
    )


def _replay_golden(model: Model, path: Path, device: Device) -> None:
    card = model.card
    try:
        answers = model.run(*golden(model))
        differences = {
            name: float(np.abs(answers[name] - np.asarray(expected)).max())
            for name, expected in card.golden.outputs.items()
        }
    except Exception as error:  # onnxruntime's have nothing else in common
        raise StoreError(
            f"{path}: the card's golden input does not fit the graph ({type(error).__name__}: {error}); "
            f"{_remedy(device)}"
        ) from error
    for name, difference in differences.items():
        if not difference <= card.golden.tolerance:  # so that NaN fails too
            raise StoreError(
                f"{path}: output {name!r} differs from the card's golden output by {difference:.3g}, "
                f"{card.golden.tolerance:.3g} is allowed; onnxruntime {onnxruntime.__version__} computes it "
                "differently or the card is not the graph's: export the model again"
            )
