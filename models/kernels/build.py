"""Building a kernel's source into a shared library, once for a machine and an installation."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.cpp_extension import include_paths, library_paths

FOLDER = Path(__file__).parent
KERNELS = ("adam", "recurrence")
# no -ffast-math: NaN has to stay NaN
FLAGS = (
    *("-std=c++20", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC"),
)
LIBRARIES = ("-ltorch_cpu", "-lc10")
LONGEST_BUILD = 600.0  # seconds


class BuildError(RuntimeError):
    """A kernel that cannot be built; the message says why and what to do."""


def fits(*tensors: Tensor) -> bool:
    """Whether tensors are what the kernels take: float32 or float64, one dtype, on the CPU."""
    dtype = tensors[0].dtype
    return dtype in (torch.float32, torch.float64) and all(t.is_cpu and t.dtype == dtype for t in tensors)


def refuse_double_backward() -> None:
    """Raise if a gradient is being computed that is to be differentiated itself.

    Raises:
        RuntimeError: it is.
    """
    # torch.compile traces a backward with gradients enabled
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "the CPU kernels have no second derivatives (create_graph=True); models.unroll, step by step, has"
        )


_loading = threading.Lock()
_outcomes: dict[str, bool] = {}


def loaded(kernel: str, register: Callable[[], None]) -> bool:
    """Whether `torch.ops.momentum` has a kernel's operators, built and loaded now if need be.

    Warns, once, if they cannot be built: everything works without them, but several times slower.

    Args:
        kernel: its name.
        register: called once after loading, to tell autograd and torch.compile.
    """
    with _loading:
        if kernel not in _outcomes:
            try:
                torch.ops.load_library(build(kernel))  # type: ignore[no-untyped-call]
            except (BuildError, OSError) as error:
                warnings.warn(
                    f"running without the CPU kernel {kernel}, several times slower: {error}", stacklevel=2
                )
                _outcomes[kernel] = False
            else:
                register()
                _outcomes[kernel] = True
        return _outcomes[kernel]


def build(kernel: str) -> Path:
    """Build a kernel unless a library of the same source, flags, PyTorch and processor is there already.

    Returns:
        The library's path, under $XDG_CACHE_HOME/momentum-serve/kernels (default ~/.cache).

    Raises:
        BuildError: there is no compiler, it failed, or the cache cannot be written.
    """
    sources = [FOLDER / f"{kernel}.cpp", FOLDER / "rows.h"]
    identity = [torch.__version__, torch.__config__.show(), _processor(), os.environ.get("CXX", ""), *FLAGS]
    content = b"\0".join(
        [*(part.encode() for part in identity), *(source.read_bytes() for source in sources)]
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "momentum-serve" / "kernels"
    library = cache / f"{kernel}-{hashlib.sha256(content).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = _compiler()
    paths = [f"-I{path}" for path in include_paths()] + [f"-L{path}" for path in library_paths()]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # renamed when complete: processes that build at the same time, or are killed, do no harm
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / library.name
            command = [*compiler, *FLAGS, *paths, str(sources[0]), "-o", str(made), *LIBRARIES]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_BUILD)  # noqa: S603
            if done.returncode != 0:
                raise BuildError(
                    f"{shlex.join(command)} failed, a C++20 compiler with OpenMP such as g++ 11 or newer is "
                    f"needed (choose one with CXX): {done.stderr[-2000:]}"
                )
            made.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{library} cannot be built ({error}); check the folder and the disk") from error
    return library


def _compiler() -> list[str]:
    chosen = shlex.split(os.environ.get("CXX", ""))
    if not chosen:
        chosen = [name for name in ("g++", "clang++", "c++") if shutil.which(name)][:1]
    if not chosen or not shutil.which(chosen[0]):
        raise BuildError(
            f"there is no C++ compiler{f' {chosen[0]!r}' if chosen else ''}; "
            "install one (Debian: apt install g++), or set CXX to yours"
        )
    return chosen


def _processor() -> str:
    """What `-march=native` depends on: libraries in a home directory may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
