"""Which device is taken, and that nothing else runs a graph than that. There is no GPU where these tests run:
onnxruntime's part is played.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from exports import card
from service.engine import Engine, StoreError, cpus, devices
from service.engine.binding import BoundSession
from service.engine.devices import Device, DeviceError
from service.engine.store import golden, load_model

STORE = Path(card.__file__).parent / "store"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
InferenceSession = onnxruntime.InferenceSession  # the real one


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    devices.preload.cache_clear()
    yield
    devices.preload.cache_clear()


def forbidden(*_: object) -> None:
    pytest.fail("a run on a GPU goes through io_binding")


def fake_driver(version: int = 13_020, status: int = 0) -> Any:
    """NVIDIA's `libcuda.so.1`."""

    def tell(value: Any, reference: Any) -> int:
        reference._obj.value = value
        return 0

    return SimpleNamespace(
        cuDriverGetVersion=lambda found: tell(version, found),
        cuInit=lambda _: status,
        cuGetErrorString=lambda _, said: tell(b"no CUDA-capable device is detected", said),
    )


class FakeCuda:
    """An onnxruntime with CUDA.

    Attributes:
        placed: operators by the provider that runs them.
        asked: what sessions were opened with.
    """

    def __init__(self) -> None:
        self.placed = {CUDA: ["LSTM", "Add"], CPU: ["Shape", "Slice", "Concat"]}
        self.runs_on = CUDA
        self.asked: list[dict[str, Any]] = []
        self.falls_back = True

    def open(self, graph: bytes, options: Any, **more: Any) -> Any:
        self.asked.append(more)
        if more["providers"] == [CPU]:
            return InferenceSession(graph, options, **more)
        parts = [
            SimpleNamespace(
                ep_name=name, get_nodes=lambda names=names: [SimpleNamespace(op_type=name) for name in names]
            )
            for name, names in self.placed.items()
        ]
        on_cpu = InferenceSession(graph, options, providers=[CPU])
        return SimpleNamespace(
            run=forbidden,
            io_binding=on_cpu.io_binding,
            run_with_iobinding=on_cpu.run_with_iobinding,
            get_inputs=on_cpu.get_inputs,
            get_outputs=on_cpu.get_outputs,
            get_providers=lambda: [self.runs_on, CPU],
            get_provider_graph_assignment_info=lambda: parts,
            disable_fallback=lambda: setattr(self, "falls_back", False),
        )


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9: not there"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", fake.open)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake_driver())
    return fake


def test_a_gpu_runs_one_batch_at_a_time_and_cpus_one_each() -> None:
    assert (devices.cpu().allow(None), devices.cpu().allow(7)) == (cpus.available(), 7)
    assert (devices.cuda().allow(None), devices.cuda().allow(1)) == (1, 1)
    with pytest.raises(DeviceError, match="a GPU runs one batch at a time, not 2: leave --lanes out"):
        devices.cuda().allow(2)


def test_onnxruntime_without_cuda(monkeypatch: pytest.MonkeyPatch, small_store: Path) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    message = r"this onnxruntime .* has no CUDA; .*pip install 'onnxruntime-gpu\[cuda,cudnn\]'"
    with pytest.raises(DeviceError, match=message):
        Engine(small_store, device="cuda")
    assert Engine(small_store, device="auto").repository.device.name == "cpu"
    assert Engine(small_store, device="auto").repository.device.reason.startswith(
        "not CUDA: this onnxruntime"
    )


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch, small_store: Path) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match=r"no NVIDIA driver \(libcuda.so.1: .*docker run --gpus all"):
        Engine(small_store, device="cuda")


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (
            fake_driver(12_040),
            r"^the NVIDIA driver runs CUDA up to 12\.4, and .* wants 13\.0; install a newer",
        ),
        (
            fake_driver(status=100),
            r"^the NVIDIA driver gives no GPU \(CUDA error 100: no CUDA-capable .*nvidia-smi",
        ),
    ],
    ids=["too old", "no GPU"],
)
@pytest.mark.usefixtures("gpu")
def test_a_driver_that_is_of_no_use(
    monkeypatch: pytest.MonkeyPatch, small_store: Path, driver: Any, message: str
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    with pytest.raises(DeviceError, match=message):
        Engine(small_store, device="cuda")
    assert Engine(small_store, device="auto").repository.device.name == "cpu"


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_gpu_that_runs_all_models_is_taken(gpu: FakeCuda, small_store: Path, wanted: Any) -> None:
    engine = Engine(small_store, device=wanted)
    assert (engine.repository.device.name, engine.lanes) == ("cuda", 1)
    assert {tuple(name for name, _ in more["providers"]) for more in gpu.asked} == {(CUDA,)}
    assert all(more["enable_fallback"] == 0 for more in gpu.asked)
    assert not gpu.falls_back


def test_cpus_are_taken_where_they_are_asked_for(gpu: FakeCuda, small_store: Path) -> None:
    device = Engine(small_store, device="cpu").repository.device
    assert (device.name, device.reason) == ("cpu", "it was asked for")
    assert all(more["providers"] == [CPU] for more in gpu.asked)


def fall_back(gpu: FakeCuda) -> None:
    gpu.runs_on = CPU


def lack_operators(gpu: FakeCuda) -> None:
    gpu.placed = {CUDA: ["Add"], CPU: ["Shape", "DynamicQuantizeLSTM"]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            fall_back,
            r"took CPUExecutionProvider instead \(Failed to load libcudnn.so.9: not there\); .*nvidia-smi",
        ),
        (lack_operators, "CUDA does not run its DynamicQuantizeLSTM; serve it with --device cpu"),
    ],
)
def test_a_gpu_that_does_not_run_a_model(
    gpu: FakeCuda, small_store: Path, spoil: Callable[[FakeCuda], None], message: str
) -> None:
    spoil(gpu)
    with pytest.raises(StoreError, match=message):
        Engine(small_store, device="cuda")
    device = Engine(small_store, device="auto").repository.device
    assert device.name == "cpu"
    assert "not CUDA" in device.reason


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_computes_something_else_is_not_taken(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BoundSession.run

    def wrong(*arguments: Any) -> Any:
        return [tensor + 1 for tensor in run(*arguments)]

    monkeypatch.setattr(BoundSession, "run", wrong)
    with pytest.raises(StoreError, match="differs from the card's golden output"):
        Engine(small_store, device="cuda")


@pytest.mark.usefixtures("gpu")
def test_whatever_onnxruntime_raises_says_which_file(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("CUDA failure 209: no kernel image is available")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(StoreError, match=r"digits/1/model.onnx: .* on cuda .*no kernel image.*--device cpu"):
        load_model(small_store / "digits" / "1", device=devices.cuda())


def test_a_session_starts_no_threads_and_keeps_no_memory_for_shapes(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def open_(graph: bytes, options: Any, **more: Any) -> Any:
        seen.append(options)
        return InferenceSession(graph, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_)
    model = load_model(small_store / "digits" / "1", device=Device("cpu", CPU, 1))
    inputs, outputs = golden(model)
    assert np.isfinite(model.run(inputs, outputs)[outputs[0]]).all()
    (options,) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not options.enable_mem_pattern
    assert not options.enable_cpu_mem_arena


@pytest.mark.usefixtures("gpu")
def test_a_gpu_runs_what_is_bound_and_lets_failures_be(small_store: Path) -> None:
    model = load_model(small_store / "digits" / "1", device=devices.cuda())
    inputs = {"pixels": np.ones((3, 8), np.float32)[:, ::2], "lengths": np.full(3, 4, np.int32)}  # not packed
    assert model.run(inputs, ["h_next"])["h_next"].tolist() == [[4], [4], [4]]
    with pytest.raises(Exception, match="pixels"):
        model.run({"lengths": inputs["lengths"]}, ["h_next"])


@pytest.mark.parametrize("name", ["digits", "frames"])
def test_what_runs_bound_gives_the_same_bits(name: str) -> None:
    """On the CPU, where it can be seen."""
    model = load_model(STORE / name / "1")
    bound = replace(model, session=BoundSession(model.session))
    inputs, _ = golden(model)
    whole = {key: np.repeat(tensor, 3, axis=0) for key, tensor in inputs.items()}
    whole["lengths"][1:] -= [1, 2]
    states = [state.output for state in model.card.states]
    every = [spec.name for spec in model.card.outputs] + states
    before = model.run(whole, every)
    onward = whole | {state.name: before[state.output] for state in model.card.states}
    for feeds in (whole, onward):
        for outputs in (every, every[:1], states):
            expected, got = model.run(feeds, outputs), bound.run(feeds, outputs)
            assert list(got) == outputs
            for key, tensor in expected.items():
                assert got[key].dtype == tensor.dtype
                np.testing.assert_array_equal(got[key], tensor)
