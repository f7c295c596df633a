"""Only artifacts that are whole, fit their card and compute what it says are served."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import Settings
from service.engine.store import StoreError, golden, load_model

Artifact = Callable[..., Path]

STATM = Path("/proc/self/statm")


def test_a_model_runs_with_states_at_zero_unless_given(small_store: Path) -> None:
    model = load_model(small_store / "digits" / "1")
    inputs = {"pixels": np.ones((2, 5), np.float32), "lengths": np.full(2, 5, np.int32)}
    answers = model.run(inputs, ["probabilities", "h_next"])
    assert list(answers) == ["probabilities", "h_next"]
    assert answers["probabilities"].shape == (2, 10)
    np.testing.assert_array_equal(answers["h_next"], [[5], [5]])
    onward = model.run({**inputs, "h": answers["h_next"]}, ["h_next"])
    np.testing.assert_array_equal(onward["h_next"], [[10], [10]])


@pytest.mark.parametrize("name", ["model.onnx", "card.json"])
def test_a_missing_file(tmp_path: Path, write_artifact: Artifact, name: str) -> None:
    (write_artifact(tmp_path) / name).unlink()
    with pytest.raises(StoreError, match=rf"{name}: cannot be read \(No such file"):
        load_model(tmp_path / "digits" / "1")


def test_a_truncated_graph(tmp_path: Path, write_artifact: Artifact) -> None:
    graph = write_artifact(tmp_path) / "model.onnx"
    size = graph.stat().st_size
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(StoreError, match=rf"model.onnx: has {size - 100} bytes, the card says {size}"):
        load_model(tmp_path / "digits" / "1")


def test_a_tampered_graph(tmp_path: Path, write_artifact: Artifact) -> None:
    graph = write_artifact(tmp_path) / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[200] ^= 1
    graph.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"model.onnx: has SHA-256 .*, the card says .*; the file was changed"
    ):
        load_model(tmp_path / "digits" / "1")


def test_a_graph_that_is_none(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path, graph=b"not a graph")
    with pytest.raises(StoreError, match=r"model.onnx: onnxruntime .* cannot load it"):
        load_model(tmp_path / "digits" / "1")


def test_a_card_that_is_none(tmp_path: Path, write_artifact: Artifact) -> None:
    card = write_artifact(tmp_path) / "card.json"
    card.write_text("{}")
    with pytest.raises(StoreError, match=r"card.json: .*expected a card of schema version 1"):
        load_model(tmp_path / "digits" / "1")


def test_an_artifact_in_the_wrong_place(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path, version="2").rename(tmp_path / "digits" / "3")
    with pytest.raises(StoreError, match=r"describes digits version 2, but lies in digits/3; move"):
        load_model(tmp_path / "digits" / "3")


@pytest.mark.parametrize(
    ("kind", "index", "edit", "message"),
    [
        ("inputs", 0, {"name": "image"}, "input '(image|pixels)'"),
        ("inputs", 0, {"dtype": "uint8"}, "input 'pixels': the card says .*uint8"),
        ("inputs", 0, {"shape": ["batch"]}, "input 'pixels'"),
        ("outputs", 1, {"shape": ["batch", "time", 11]}, "output 'trace'"),
        ("states", 0, {"shape": ["batch", 2]}, "(in|out)put 'h(_next)?'"),
        ("states", 0, {"output": "h_after"}, "output 'h_(after|next)'"),
    ],
)
def test_a_graph_that_differs_from_its_card(
    tmp_path: Path, write_artifact: Artifact, kind: str, index: int, edit: dict[str, Any], message: str
) -> None:
    write_artifact(tmp_path, change=lambda card: card[kind][index].update(edit))
    with pytest.raises(StoreError, match=f"model.onnx: {message}"):
        load_model(tmp_path / "digits" / "1")


def test_an_output_the_card_does_not_know(tmp_path: Path, write_artifact: Artifact) -> None:
    write_artifact(tmp_path, change=lambda card: card["outputs"].pop())
    with pytest.raises(StoreError, match="output 'trace': the card says there is none, the graph has"):
        load_model(tmp_path / "digits" / "1")


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_a_golden_output_that_is_not_reproduced(
    tmp_path: Path, write_artifact: Artifact, wrong: float
) -> None:
    def spoil(card: dict[str, Any]) -> None:
        card["golden"]["outputs"]["probabilities"][0][3] = wrong

    folder = write_artifact(tmp_path, change=spoil)
    assert ("NaN" in (folder / "card.json").read_text()) == (wrong != 0.5)
    with pytest.raises(
        StoreError, match=r"output 'probabilities' differs from the card's golden output|card.json"
    ):
        load_model(tmp_path / "digits" / "1")


@pytest.mark.parametrize(
    "golden",
    [
        {"inputs": {"nonsense": [[1.0]]}},
        {"inputs": {}},
        {"inputs": {"pixels": [[1.0], [1.0, 2.0]], "lengths": [1, 2]}},
        {"inputs": {"pixels": [[1.0]]}},
        {"outputs": {"nonsense": [[1.0]]}},
        {"outputs": {"probabilities": [[1.0, 0.0]]}},
    ],
)
def test_a_golden_pair_that_does_not_fit(
    tmp_path: Path, write_artifact: Artifact, golden: dict[str, Any]
) -> None:
    write_artifact(tmp_path, change=lambda card: card["golden"].update(golden))
    with pytest.raises(StoreError, match="the card's golden input does not fit the graph"):
        load_model(tmp_path / "digits" / "1")


@pytest.mark.skipif(not STATM.exists(), reason="counts pages as Linux does")
def test_loading_again_and_again_takes_no_more_memory(tmp_path: Path) -> None:
    """What is unloaded, or could not be loaded, is given back (onnxruntime_backend#268, triton#4966)."""
    paces: dict[str, Any] = {}
    good = Settings().store / "digits" / "1"
    bad = shutil.copytree(good, tmp_path / "digits" / "1")
    card = json.loads((bad / "card.json").read_text())
    card["golden"]["outputs"]["probabilities"][0][0] += 1
    (bad / "card.json").write_text(json.dumps(card))

    def load(times: int) -> int:
        for _ in range(times):
            model = load_model(good, paces)
            model.run(*golden(model))
            with pytest.raises(StoreError, match="differs from the card's golden output"):
                load_model(bad, paces)
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = load(10)
    assert load(40) < before + 40 * 200_000  # a session takes five times that


def test_the_error_names_the_file(tmp_path: Path, write_artifact: Artifact) -> None:
    folder = write_artifact(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    card["file"]["bytes"] += 1
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(StoreError) as caught:
        load_model(tmp_path / "digits" / "1")
    assert str(caught.value).startswith(str(folder / "model.onnx"))
