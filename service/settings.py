"""Settings: environment variables MOMENTUM_<NAME>, and command line flags of the same names, which win."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliApp, CliImplicitFlag, NoDecode, SettingsConfigDict

from exports import card
from service.engine import MAX_ROWS
from service.engine.devices import Wanted

Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/?#@\s]+)$")]


def _split(value: Any) -> Any:
    """A list as environment variables and flags have it."""
    parts = [value] if isinstance(value, str) else value
    return [name for part in parts for name in part.split(",")] if isinstance(parts, list) else value


class Settings(BaseSettings):
    """Serve momentum networks over HTTP. Flags can be environment variables too: --port is MOMENTUM_PORT.
    `python -m service stream --help` tells of the client for live audio, `python -m service doctor` what a
    server would run on here, and how fast.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOMENTUM_",
        env_ignore_empty=True,
        frozen=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for all")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    store: Path = Field(
        Path(card.__file__).parent / "store",
        description="folder of artifacts, <model>/<version>/model.onnx and card.json",
    )
    device: Wanted = Field(
        "auto", description="what to run models on: cpu, cuda, or auto: a GPU if all models run there"
    )
    lanes: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="inferences that run side by side, one thread each; default: one a CPU, or one on a GPU",
    )
    batch_rows: int = Field(
        MAX_ROWS,
        ge=1,
        le=4096,
        description="images, or pieces of audio, of several requests that may run as one inference",
    )
    versions: int = Field(
        2, ge=1, le=1000, description="how many versions of a model to serve, the newest ones"
    )
    queue_rows: int = Field(
        1024,
        ge=1,
        le=10**6,
        description="images, or pieces of recordings, that may wait, and as many uploads to be decoded; more "
        "get 429",
    )
    queue_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="bytes of tensors that may wait, and as many of uploads to be decoded; more get 429",
    )
    request_seconds: float = Field(
        60, gt=0, description="how long a request may take that has no X-Request-Timeout"
    )
    max_request_seconds: float = Field(600, gt=0, description="the most that X-Request-Timeout may ask for")
    head_seconds: float = Field(20, gt=0, description="how long the head of a request may take to arrive")
    keep_alive_seconds: int = Field(
        75,  # above the 60 of nginx and of AWS's load balancers: who closes first must be the client
        ge=1,
        description="how long a connection may be idle between two requests",
    )
    max_connections: int = Field(
        4096, ge=1, description="connections at a time; `ulimit -n` has to allow more"
    )
    answer_seconds: float = Field(
        60, gt=0, description="how long a client may take nothing of its answer before it is disconnected"
    )
    api_keys: Path | None = Field(
        None, description="file of API keys that clients have to send; made with `python -m service keys new`"
    )
    local_admin: CliImplicitFlag[bool] = Field(
        False,
        description="without API keys, programs on this machine may load and unload models, and take streams",
    )
    cors_origins: Annotated[list[Origin], NoDecode, BeforeValidator(_split)] = Field(
        [], description="origins whose pages may use the API, such as https://example.org,https://example.com"
    )
    max_body_bytes: int = Field(
        64 * 2**20,  # ten minutes of speech: stereo, 24 bits, 16 kHz
        ge=1,
        description="refuse longer request bodies",
    )
    max_bodies_bytes: int = Field(
        512 * 2**20,
        ge=1,
        description="bytes of request bodies held at a time, of all requests; more get 429",
    )
    max_image_pixels: int = Field(
        50_000_000,
        ge=1,
        le=89_478_485,  # Pillow's own limit, above which it refuses by itself
        description="refuse images of more pixels, going by their header",
    )
    max_batch: int = Field(256, ge=1, description="refuse requests of more images")
    max_audio_seconds: int = Field(600, ge=1, description="refuse longer recordings")
    max_audio_samples: int = Field(
        250_000_000, ge=1, description="refuse recordings of more samples, all channels together"
    )
    max_audio_channels: int = Field(32, ge=1, le=1024, description="refuse recordings of more channels")
    min_sample_rate: int = Field(1000, ge=1, description="refuse recordings of lower sample rates, Hz")
    max_sample_rate: int = Field(768_000, ge=1, description="refuse recordings of higher sample rates, Hz")
    max_streams: int = Field(1000, ge=1, description="live streams at a time; more are told to try later")
    max_stream_seconds: float = Field(14_400, gt=0, description="refuse more audio in a live stream")
    max_chunk_bytes: int = Field(
        2**16, ge=1024, le=2**24, description="refuse longer messages of a live stream"
    )
    stream_start_seconds: float = Field(
        10, gt=0, description="how long a connection for a live stream may take to begin it"
    )
    stream_idle_seconds: float = Field(60, gt=0, description="end live streams without audio for as long")
    stream_resume_seconds: float = Field(
        60, gt=0, description="how long a live stream that lost its connection, or its result, is kept"
    )
    stream_stall_seconds: float = Field(
        20, gt=0, description="disconnect live streams that take no answers for as long"
    )
    stream_replay_bytes: int = Field(
        2**17, ge=0, description="answers of a live stream kept for a client that lost some of them"
    )
    drain_seconds: float = Field(
        5,
        ge=0,
        le=3600,
        description="after SIGTERM, how long to serve on while not being ready, for load balancers to notice",
    )
    shutdown_seconds: int = Field(
        30, ge=0, description="how long running requests may take to finish when stopping"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto is console on a terminal and JSON lines elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="leave out what matters less; debug includes health checks"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        low, high = self.min_sample_rate, self.max_sample_rate
        if low > high:
            raise ValueError(f"--min-sample-rate {low} is above --max-sample-rate {high}")
        # Without being told of batches, it is for their sender to keep to what may wait.
        if "max_batch" in self.model_fields_set and self.max_batch > self.queue_rows:
            raise ValueError(
                f"--max-batch {self.max_batch} is above --queue-rows {self.queue_rows}: such a batch could "
                "never wait for a lane"
            )
        return self

    @classmethod
    def from_command_line(cls, arguments: Sequence[str]) -> Self:
        """Read the environment and the arguments; on a bad value print one line and exit with status 2."""
        try:
            return CliApp.run(cls, cli_args=list(arguments))
        except ValidationError as error:
            print(f"python -m service: {_told(error)}", file=sys.stderr)
            raise SystemExit(2) from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _told(error: ValidationError) -> str:
    """The first of what is wrong with settings."""
    first = error.errors()[0]
    if not first["loc"]:  # it is not about one of them
        return first["msg"].removeprefix("Value error, ")
    name = str(first["loc"][0])
    told = f"{_flag(name)} or MOMENTUM_{name.upper()}: {first['msg']}, not {first['input']!r}"
    if name == "port" and "://" in str(first["input"]):
        told += (
            ": Kubernetes sets that for a Service called momentum; give the pod enableServiceLinks: false, "
            "or the Service another name"
        )
    return told
