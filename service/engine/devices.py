"""What graphs run on: CPUs, or an NVIDIA GPU through CUDA.

A GPU is used strictly. onnxruntime would rather run on the CPU than fail: where its package has no CUDA,
where a library is missing, where a run fails, and for operators that CUDA lacks. Each of these is an error
here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import onnxruntime

from service.engine import cpus
from service.engine.binding import BoundSession, Session

Wanted = Literal["auto", "cpu", "cuda"]
T = TypeVar("T")

_CUDA = "CUDAExecutionProvider"
_INSTALL = "`pip uninstall onnxruntime`, then `pip install 'onnxruntime-gpu[cuda,cudnn]'`"
# onnxruntime computes shapes on the CPU, where they are needed. Its `session.disable_cpu_ep_fallback`
# refuses graphs with such nodes; this does not.
_OF_SHAPES = {
    *("Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Max"),
    *("Min", "Mod", "Mul", "Range", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze"),
    "Where",
}


class DeviceError(RuntimeError):
    """A device that can't be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Device:
    """
    Attributes:
        name: as --device has it.
        provider: as onnxruntime calls it.
        lanes: how many graphs run side by side: on CPUs one each, since a small recurrent step gains nothing
            from more threads; on a GPU one, which sessions are not made to be shared on.
        reason: why it was chosen.
    """

    name: Literal["cpu", "cuda"]
    provider: str
    lanes: int
    reason: str = ""

    def open(self, graph: bytes) -> Session:
        """A session in which nothing but this device runs the graph.

        Raises:
            DeviceError: it would run elsewhere.
            Exception: whatever onnxruntime raises when it can't load the graph.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors come as exceptions
        # Plans of memory are kept for every shape that was ever asked, 4 kB each. The arena keeps what the
        # largest request took, and gains nothing here over malloc.
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        return self._open_cuda(graph, options) if self.name == "cuda" else self._open_cpu(graph, options)

    def allow(self, lanes: int | None) -> int:
        """How many lanes there are to be, of which so many were asked for.

        Raises:
            DeviceError: a GPU has one.
        """
        if self.name == "cuda" and lanes not in (None, 1):
            raise DeviceError(f"a GPU runs one batch at a time, not {lanes}: leave --lanes out")
        return lanes or self.lanes

    def _open_cpu(self, graph: bytes, options: Any) -> Session:
        session: Session = onnxruntime.InferenceSession(graph, options, providers=[self.provider])
        return session

    def _open_cuda(self, graph: bytes, options: Any) -> Session:
        warnings = preload()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = onnxruntime.InferenceSession(
            graph,
            options,
            # TF32 would round to 10 bits; the arena's default is to double what it takes.
            providers=[(self.provider, {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"})],
            enable_fallback=0,
        )
        session.disable_fallback()  # when a run fails
        if session.get_providers()[0] != self.provider:
            raise DeviceError(
                f"onnxruntime {onnxruntime.__version__} did not get its CUDA libraries to work and took "
                f"{session.get_providers()[0]} instead ({warnings or 'its log says why'}); {_INSTALL}, "
                "and see with `nvidia-smi` that the driver is new enough for their CUDA"
            )
        elsewhere = {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name != self.provider
            for node in part.get_nodes()
        }
        if elsewhere - _OF_SHAPES:
            raise DeviceError(
                f"CUDA does not run its {', '.join(sorted(elsewhere - _OF_SHAPES))}; "
                "serve it with --device cpu, or export it without quantization"
            )
        return BoundSession(session)


def cpu(reason: str = "") -> Device:
    """The CPUs."""
    return Device("cpu", "CPUExecutionProvider", cpus.available(), reason)


def cuda(reason: str = "") -> Device:
    """The GPU."""
    return Device("cuda", _CUDA, 1, reason)


@functools.cache
def preload() -> str:
    """Load the libraries that CUDA sessions need, from where pip installed them.

    Returns:
        What onnxruntime had to say about it.

    Raises:
        DeviceError: this onnxruntime has no CUDA, or there is no driver, one too old for it, or no GPU.
    """
    version = onnxruntime.__version__
    if _CUDA not in onnxruntime.get_available_providers():
        raise DeviceError(f"this onnxruntime {version} has no CUDA; {_INSTALL}")
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError(
            f"there is no NVIDIA driver ({error}); install one, or give the container its GPU with "
            "`docker run --gpus all`"
        ) from error
    _check_driver(driver)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()
    return " ".join(said.getvalue().split())


def _check_driver(driver: Any) -> None:
    """Whether the driver is new enough and has a GPU: onnxruntime's own words would blame the model.

    Raises:
        DeviceError: it is not, or has none.
    """
    runs = ctypes.c_int()  # 1000 a major version, 10 a minor
    driver.cuDriverGetVersion(ctypes.byref(runs))
    wants = onnxruntime.cuda_version
    if runs.value // 1000 < int(wants.partition(".")[0] or 0):  # minor versions don't matter
        raise DeviceError(
            f"the NVIDIA driver runs CUDA up to {runs.value // 1000}.{runs.value % 1000 // 10}, and "
            f"onnxruntime {onnxruntime.__version__} wants {wants}; install a newer driver"
        )
    status = driver.cuInit(0)
    if status:
        said = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(said))
        raise DeviceError(
            f"the NVIDIA driver gives no GPU (CUDA error {status}: {(said.value or b'unknown').decode()}); "
            "see with `nvidia-smi` that it works, and that CUDA_VISIBLE_DEVICES and the container leave one"
        )


def choose(wanted: Wanted, attempt: Callable[[Device], T]) -> T:
    """Try something on the device that is wanted, such as to load all models. `auto` is the GPU if it works
    there, else the CPU.

    Args:
        wanted: as --device has it.
        attempt: raises an exception if it does not work.

    Raises:
        DeviceError: CUDA is wanted, and can't be used at all.
        Exception: what `attempt` raises.
    """
    if wanted == "cpu":
        return attempt(cpu("it was asked for"))
    try:
        preload()
        return attempt(cuda("it was asked for" if wanted == "cuda" else "all models run on it"))
    except Exception as error:
        if wanted == "cuda":
            raise
        return attempt(cpu(f"not CUDA: {error}"))
