"""Numbers too small for full precision, which many processors compute with a hundred times slower.

onnxruntime's own switch, `session.set_denormal_as_zero`, reaches the threads of its pools and the one that
opens a process's first session; the engine's graphs run in neither.
"""

from __future__ import annotations

import ctypes
import platform

# Where <fenv.h> keeps the control register, as an index of 32-bit words, and its bits: flush results to zero
# (and on x86 also take denormal operands as zero).
_CONTROL = {"x86_64": (7, 1 << 15 | 1 << 6), "aarch64": (0, 1 << 24)}


def flush() -> bool:
    """Have the calling thread take denormal numbers as zero.

    Returns:
        Whether it does now; not on processors that this does not know.
    """
    if platform.machine() not in _CONTROL or platform.system() != "Linux":
        return False
    word, bits = _CONTROL[platform.machine()]
    library = ctypes.CDLL(None)
    environment = (ctypes.c_uint32 * 16)()  # glibc's and musl's is shorter
    library.fegetenv(environment)
    environment[word] |= bits
    library.fesetenv(environment)
    return True
