"""Freed memory stays in the process once it is asked to."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from pathlib import Path
from training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
before = pages()
block = bytearray(2**26)
block[::4096] = b"x" * len(block[::4096])
del block
print((pages() - before) * 4096 / 2**26)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is a setting of glibc's malloc")
def test_freed_memory_is_kept() -> None:
    def kept(mode: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", CODE, mode], cwd=Path(__file__).parents[2], capture_output=True, check=True
        )
        return float(done.stdout)

    assert kept("leave") < 0.2
    assert kept("keep") > 0.8
