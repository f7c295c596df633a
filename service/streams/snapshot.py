"""A live stream as a document, from which another server, or this one under another name, goes on with it as
if nothing had happened. docs/frames.md describes it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from exports.card import Card, DType, StateSpec
from service.engine import Tensor
from service.frames.audio import Waveform
from service.frames.transcript import Progress
from service.streams.pcm import Encoding

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

_FORMAT: Literal["momentum-stream"] = "momentum-stream"
_Count = Annotated[int, Field(ge=0, lt=10**12)]
_KINDS = {"frames", "segment", "result"}
_FEW = 2**13  # lists and objects in any document
_BYTES_EACH = 24  # further ones, in rows of messages


class InvalidSnapshotError(ValueError):
    """A document that is no snapshot, or not one that can be; the message says what is wrong with it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelName(_Strict):
    """The model that hears a stream; `sha256` is its graph's."""

    name: Annotated[str, Field(max_length=64)]
    version: Annotated[str, Field(max_length=16)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def __str__(self) -> str:
        return f"{self.name} version {self.version} (SHA-256 {self.sha256})"

    @classmethod
    def of(cls, card: Card) -> Self:
        """That of a card."""
        return cls(name=card.name, version=card.version, sha256=card.file.sha256)


class Array(_Strict):
    """A tensor: its elements in little endian and row-major order, as Base64."""

    name: Annotated[str, Field(max_length=200)]
    dtype: DType
    shape: Annotated[list[_Count], Field(max_length=8)]
    data: str

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> Self:
        """A tensor of one of these types."""
        little = tensor.astype(tensor.dtype.newbyteorder("<"))
        data = base64.b64encode(little.tobytes()).decode()
        return cls.model_validate(
            {"name": name, "dtype": tensor.dtype.name, "shape": list(tensor.shape), "data": data}
        )

    def tensor(self, dtype: str, shape: Sequence[int | None]) -> Tensor:
        """The tensor, as it is expected; None is a dimension of any size.

        Raises:
            InvalidSnapshotError: it is another, or has NaN or infinity.
        """
        fits = len(self.shape) == len(shape) and all(
            size in (None, has) for size, has in zip(shape, self.shape, strict=True)
        )
        if self.dtype != dtype or not fits:
            expected = f"{dtype} {['any' if size is None else size for size in shape]}".replace("'", "")
            raise InvalidSnapshotError(f"{self.name} is {self.dtype} {self.shape}; expected {expected}")
        try:
            data = base64.b64decode(self.data, validate=True)
            little = np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(self.shape)
        except ValueError as error:
            raise InvalidSnapshotError(f"the data of {self.name} are not a tensor's: {error}") from error
        if not np.isfinite(little).all():
            raise InvalidSnapshotError(f"{self.name} has NaN or infinity")
        return little.astype(dtype)


class Snapshot(_Strict):
    """A stream between two inferences.

    Attributes:
        stream: its name.
        secret: what its tokens begin with after the name: who has it may go on with the stream.
        model: hears it.
        samples: how many of the client's samples have been taken.
        finishing: whether the client has sent all its audio.
        probabilities: whether each frame's probability of each class is told.
        pending: audio at the model's rate that is still to be heard, [samples].
        states: the model's, a row each.
        progress: of the transcript.
        segments: how many were told.
        first: the number of the first of `messages`.
        messages: which the client may lack, as JSON without their tokens.
    """

    format: Literal["momentum-stream"] = _FORMAT
    schema_version: Literal[1] = 1
    stream: Name
    secret: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
    model: ModelName
    encoding: Encoding
    sample_rate: Annotated[int, Field(gt=0, lt=10**7)]
    samples: _Count
    finishing: bool
    probabilities: bool
    pending: Array
    states: Annotated[list[Array], FailFast(), Field(max_length=1000)]
    progress: Progress
    segments: _Count
    first: Annotated[int, Field(ge=1, lt=10**12)]
    messages: Annotated[list[str], FailFast(), Field(max_length=2**16)]

    def dump(self) -> bytes:
        """The document, with a checksum."""
        content = self.model_dump()
        return orjson.dumps({"sha256": _digest(_canonical(content)), "snapshot": content})

    @classmethod
    def load(cls, document: bytes) -> Self:
        """Read a document.

        Raises:
            InvalidSnapshotError: it is none, was damaged or changed, or says what cannot be.
        """
        containers = document.count(b"[") + document.count(b"{")
        if containers > (most := _FEW + len(document) // _BYTES_EACH):  # they take much time and memory
            raise InvalidSnapshotError(f"it has {containers} lists and objects; expected at most {most}")
        try:
            read = orjson.loads(document)
        except orjson.JSONDecodeError as error:
            raise InvalidSnapshotError(f"it is not JSON: {error}") from error
        if not isinstance(read, dict) or read.keys() != {"sha256", "snapshot"}:
            raise InvalidSnapshotError("it is not an object of sha256 and snapshot")
        digest = _digest(_canonical(read["snapshot"]))
        if read["sha256"] != digest:
            raise InvalidSnapshotError(f"it was changed: its SHA-256 is {digest}, and it says another")
        try:
            # Not from the text: each error would take a copy of what is wrong.
            snapshot = cls.model_validate(read["snapshot"])
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "snapshot"
            raise InvalidSnapshotError(f"{where}: {first['msg']}") from error
        for number, message in enumerate(snapshot.messages, snapshot.first):
            _check_message(number, message)
        return snapshot

    def tensors(self, specs: Sequence[StateSpec]) -> dict[str, Tensor]:
        """The states by name, [1, ...] each.

        Raises:
            InvalidSnapshotError: they are not what the model's card says.
        """
        names = [state.name for state in self.states]
        if names != [spec.name for spec in specs]:
            expected = ", ".join(spec.name for spec in specs)
            raise InvalidSnapshotError(f"it has the states {', '.join(names)}; expected {expected}")
        return {
            spec.name: state.tensor(spec.dtype, [1, *(int(size) for size in spec.shape[1:])])
            for state, spec in zip(self.states, specs, strict=True)
        }

    def waveform(self, rate: int, hop: int) -> Waveform:
        """The pending audio.

        Args:
            rate: the model's sample rate, Hz.
            hop: the samples of a frame.

        Raises:
            InvalidSnapshotError: it is not audio, or not as much as was taken and not heard.
        """
        waveform: Waveform = self.pending.tensor("float32", [None])
        if len(waveform) and max(waveform.max(), -waveform.min()) > 1:
            raise InvalidSnapshotError("pending has samples beyond full scale")
        if self.sample_rate != rate:
            if not self.finishing:  # a resampler's state is not to be had
                raise InvalidSnapshotError(
                    f"the audio has {self.sample_rate} samples a second; expected {rate}"
                )
        elif self.samples != self.progress.frames * hop + len(waveform):
            raise InvalidSnapshotError(
                f"{self.samples} samples were taken; expected {hop} for each of {self.progress.frames} "
                f"frames and {len(waveform)} pending ones"
            )
        return waveform

    def heard(self, card: Card) -> Progress:
        """The transcript's progress.

        Raises:
            InvalidSnapshotError: it is none that the model's frames could have made.
        """
        heard = self.progress
        classes = len(card.labels)
        silence = None if card.silence is None else card.labels.index(card.silence)
        compared = sum(total for index, total in enumerate(heard.totals) if index != silence)
        if not (
            0 <= heard.silent <= heard.frames < 10**12
            and math.isfinite(sum(heard.totals) + heard.sum)
            and len(heard.totals) == classes
            and min(heard.totals) >= 0
            and (compared > 0 or heard.silent == heard.frames)
            and (heard.open is None) == (heard.frames == 0)
            and (heard.open is None or (0 <= heard.open < classes and 0 <= heard.start < heard.frames))
            and heard.sum >= 0
        ):
            raise InvalidSnapshotError(f"progress is not that of {classes} classes: {heard}")
        return heard


def _canonical(content: Any) -> bytes:
    try:
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # nested too deeply
        raise InvalidSnapshotError(f"it is no snapshot: {error}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_message(number: int, text: str) -> None:
    """
    Raises:
        InvalidSnapshotError: it is not a message that a stream sends.
    """
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSnapshotError(f"message {number} is not JSON: {error}") from error
    if (
        not isinstance(message, dict)
        or message.get("type") not in _KINDS
        or "resume" in message
        or not (text.startswith("{") and text.endswith("}"))
    ):
        raise InvalidSnapshotError(f"message {number} is none that a stream sends")
