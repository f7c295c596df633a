"""The C++ kernels: built once, safely, and refused with words."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from models import AdamLSTM, MomentumLSTM, unroll
from models.kernels import adam, build, recurrence
from models.kernels.build import KERNELS, BuildError, fits

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("native")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "momentum-serve" / "kernels"


@pytest.fixture
def quick_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that takes no time: writes its last-but-two argument's file and counts its calls."""
    script = tmp_path / "compiler"
    script.write_text(
        '#!/bin/sh\necho call >> "$0.calls"\nsleep 0.2\n'
        'while [ "$1" != -o ]; do shift; done\necho library > "$2"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    return script


def test_a_kernel_is_built_once_for_what_it_depends_on(
    empty_cache: Path, quick_compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build("adam")
    assert first.parent == empty_cache
    assert first.read_text() == "library\n"
    assert build("adam") == first
    calls = Path(f"{quick_compiler}.calls")
    assert calls.read_text() == "call\n"
    monkeypatch.setenv("CXX", f"{quick_compiler} -DOTHER")
    assert build("adam") != first
    assert build("recurrence") not in (first, build("adam"))
    assert len(list(empty_cache.iterdir())) == 3


@pytest.mark.usefixtures("quick_compiler")
def test_several_may_build_at_the_same_time(empty_cache: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(build, ["adam"] * 3))
    assert len(set(built)) == 1
    assert list(empty_cache.iterdir()) == [built[0]]


def test_without_a_compiler_there_is_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="no C\\+\\+ compiler 'no-such-compiler'; install one"):
        build("adam")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match="no C\\+\\+ compiler; install one"):
        build("adam")


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", f"{sys.executable} -c \"raise SystemExit('broken')\"")
    with pytest.raises(BuildError, match=r"failed, a C\+\+20 compiler .* is needed.*broken"):
        build("adam")
    assert not list((tmp_path / "momentum-serve" / "kernels").iterdir())


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"file/momentum-serve/kernels/adam-.*\.so cannot be built"):
        build("adam")


def test_everything_works_without_kernels_but_says_so(tmp_path: Path) -> None:
    code = (
        "import torch; from models import AdamLSTM; torch.manual_seed(0); x = torch.ones(3, 2, 4);"
        "print(AdamLSTM(4, 5)(x)[0].sum().item())"
    )
    outputs = []
    for compiler in ("no-such-compiler", os.environ.get("CXX", "")):
        environment = os.environ | {"CXX": compiler}
        if compiler == "no-such-compiler":
            environment["XDG_CACHE_HOME"] = str(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0
        outputs.append((float(done.stdout), done.stderr))
    assert outputs[0][0] == pytest.approx(outputs[1][0], abs=1e-6)
    warning = "running without the CPU kernel adam, several times slower: there is no C++ compiler"
    assert outputs[0][1].count(warning) == 1


def test_main_builds_all() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models.kernels"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(KERNELS)


def test_what_kernels_take() -> None:
    x = torch.zeros(3)
    assert fits(x, x)
    assert adam.can_run(x)
    assert recurrence.can_run(x)
    assert not fits(x, x.double())
    assert not fits(x.half(), x.half())
    assert not fits(x.to("meta"))


def test_wrong_shapes_are_errors_and_no_crash() -> None:
    lengths = torch.full((2,), 3)
    drive, h, weight = torch.zeros(3, 2, 20), torch.zeros(2, 5), torch.zeros(20, 5)
    for arguments in (
        (drive[..., :19], h, h, weight, torch.zeros(20), lengths),
        (drive, h[:1], h, weight, torch.zeros(20), lengths),
        (drive, h, h[:1], weight, torch.zeros(20), lengths),
        (drive, h, h, weight[:, :4], torch.zeros(20), lengths),
        (drive, h, h, weight, torch.zeros(19), lengths),
    ):
        with pytest.raises(RuntimeError, match="expected x"):
            torch.ops.momentum.recurrence(arguments[0], None, *arguments[1:], "lstm")
    with pytest.raises(RuntimeError, match="expected x"):
        torch.ops.momentum.recurrence(
            drive, torch.zeros(20, 19), h, h, weight, torch.zeros(20), lengths, "lstm"
        )
    with pytest.raises(RuntimeError, match="unknown recurrence mlp"):
        torch.ops.momentum.recurrence(drive, None, h, h, weight, torch.zeros(20), lengths, "mlp")
    others = (h, h, weight, torch.zeros(20))
    for bad in (lengths[:1], lengths + 1, lengths - 4, torch.tensor([1, 3]), lengths.float()):
        with pytest.raises(RuntimeError, match="lengths"):
            torch.ops.momentum.recurrence(drive, None, *others, bad, "lstm")
    one = torch.ones((), dtype=torch.float64)
    with pytest.raises(RuntimeError, match="expected u"):
        torch.ops.momentum.adam(drive, h, h, lengths, one, one, 0.1, 1e-16)


def test_operators_are_registered_as_torch_wants_them() -> None:
    torch.manual_seed(0)
    AdamLSTM(2, 3)(torch.zeros(1, 1, 2))  # loads them
    lengths = torch.tensor([4, 2])

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    for kind, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("orthogonal", 1)):
        c = draw(2, 3) if kind == "lstm" else torch.empty(0, dtype=torch.float64)
        others = (draw(2, 3), c, draw(3 * gates, 3), draw(3 * gates), lengths, kind)
        for read in ((draw(4, 2, 3 * gates), None), (draw(4, 2, 5), draw(3 * gates, 5))):
            torch.library.opcheck(torch.ops.momentum.recurrence.default, (*read, *others))
    rates = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.6, 0.5)]
    s = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    arguments = (draw(40, 2, 3), draw(2, 3), s, torch.tensor([40, 33]), *rates, 0.9, 1e-16)
    torch.library.opcheck(torch.ops.momentum.adam.default, arguments)
    assert torch.autograd.gradcheck(
        lambda *a: torch.ops.momentum.adam(*a, torch.tensor([40, 33]), *rates, 0.9, 1e-16)[:3], arguments[:3]
    )


def test_lengths_may_be_strided_and_adams_in_any_order() -> None:
    layer = AdamLSTM(2, 3)
    u, state = torch.randn(4, 2, 12), (torch.zeros(2, 12), torch.zeros(2, 12))
    strided = torch.tensor([2, 9, 4, 9])[::2]
    torch.testing.assert_close(layer.filter(u, state, strided), layer.filter(u, state, strided.clone()))
    with pytest.raises(RuntimeError, match="expected lengths from 0 to 4, got 300000"):
        layer.filter(u, state, torch.tensor([300000, 1]))


def test_second_derivatives_are_refused() -> None:
    x = torch.randn(4, 2, 2, requires_grad=True)
    for layer in (AdamLSTM(2, 3), MomentumLSTM(2, 3)):
        with pytest.raises(RuntimeError, match=r"no second derivatives .* models.unroll"):
            torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
        first = torch.autograd.grad(torch.stack(unroll(layer, x)).square().sum(), x, create_graph=True)[0]
        assert torch.autograd.grad(first.square().sum(), x)[0].any()


def test_first_use_from_several_threads() -> None:
    code = (
        "import torch, warnings; from concurrent.futures import ThreadPoolExecutor;"
        "warnings.simplefilter('error');"
        "from models import AdamLSTM; layer = AdamLSTM(2, 3); x = torch.ones(3, 1, 2);"
        "print(len(list(ThreadPoolExecutor(4).map(lambda _: layer(x), range(4)))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")
