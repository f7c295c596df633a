"""The artifact's schema: `card.json` describes the `model.onnx` beside it.

A card and its graph are the whole contract between training and serving. This module is plain pydantic, so a
server needs neither torch nor onnx to read one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
Promise = Literal["bitwise", "rounding", "impossible"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
DType = Literal["float32", "int32", "int64", "uint8"]

MODEL_FILE: Literal["model.onnx"] = "model.onnx"
CARD_FILE = "card.json"


class CardError(ValueError):
    """A card that cannot be read; the message names the file, what is wrong with it and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """A tensor of the graph. A string in `shape` names a dynamic dimension, an integer fixes one."""

    name: str
    dtype: DType
    shape: list[int | str]


class StateSpec(_Strict):
    """Recurrent state: fed as input `name`, read back as output `output`; zeros mean "start"."""

    name: str
    output: str
    dtype: DType
    shape: list[int | str]


class Exactness(_Strict):
    """What float32 on the CPU promises: bit for bit, up to rounding, or (a permuted network) not possible.

    batched: a row computed in a batch against the same row alone; padded: a padded row against the same row
        without padding;
    streamed: a sequence fed in chunks against the same sequence whole.
    streamed_difference: the largest absolute difference of any output that this made when it was tried.
    """

    batched: Promise
    padded: Promise
    streamed: Promise
    streamed_difference: float = Field(default=0.0, ge=0)


class Metric(_Strict):
    """A figure measured with the exported graph, not with the network it came from."""

    name: str
    value: float
    dataset: str
    split: Literal["train", "validation", "test"]
    count: int = Field(gt=0, description="How many examples the figure was measured on.")


class Verification(_Strict):
    """How far the graph is from PyTorch: largest absolute difference of any output over all cases."""

    max_difference: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    cases: list[str]


class Provenance(_Strict):
    """Where the weights come from, in enough detail to make them again."""

    recipe: dict[str, Any]
    seed: int | None
    epochs: int = Field(ge=0)
    data_sha256: dict[str, Sha256]
    data_options: dict[str, Any] = Field(default={}, description="What the data set was asked.")
    git_commit: str | None
    created: str = Field(description="ISO 8601, UTC.")
    libraries: dict[str, str]


class ModelFile(_Strict):
    """The graph's file beside the card."""

    name: Literal["model.onnx"] = MODEL_FILE
    sha256: Sha256
    bytes: int = Field(gt=0)


class Golden(_Strict):
    """An input and the output it must give. Every load replays it before the model counts as ready."""

    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    tolerance: float = Field(gt=0)


class Card(_Strict):
    """Everything a server has to know about a model besides its graph."""

    schema_version: Literal[1] = 1
    name: Name
    version: Version
    task: Literal["digits", "frames"]
    description: str
    labels: list[str] = Field(min_length=2)
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    states: list[StateSpec]
    image_shape: tuple[int, int] | None = Field(
        default=None, description="Rows and columns of the images a digits model reads."
    )
    sample_rate: int | None = Field(
        default=None, gt=0, description="Of the waveforms a frames model hears, Hz."
    )
    hop_length: int | None = Field(
        default=None,
        gt=0,
        description="Samples a frame; frame k ends with sample (k + 1) * hop.",
    )
    silence: str | None = Field(
        default=None, description="The label of frames in which nothing is said; an utterance's is another."
    )
    exactness: Exactness
    metrics: list[Metric]
    verification: Verification
    provenance: Provenance
    file: ModelFile
    golden: Golden

    @model_validator(mode="after")
    def _one_label_a_class(self) -> Self:
        for output in self.outputs:
            classes = output.shape[-1] if output.shape else 0
            if output.name == "probabilities" and classes != len(self.labels):
                raise ValueError(f"{len(self.labels)} labels for an output of shape {output.shape}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card.json.

        Raises:
            CardError: the file is missing, not JSON, or not a card of this schema.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CardError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "document"
            raise CardError(
                f"{path}: {where}: {first['msg']} ({error.error_count()} error(s)); "
                f"expected a card of schema version 1; export the model again"
            ) from error
