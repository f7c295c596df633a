"""How much of the gradient reaches each step."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from models import DigitClassifier
from training import gradients
from training.data.mnist import FILES, has_mnist


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(5, 4, 4) + 0.1


def test_an_orthogonal_network_without_threshold_keeps_the_norm(images: torch.Tensor) -> None:
    classifier = DigitClassifier(6, filter="identity", recurrence="orthogonal", bias=False)
    torch.nn.init.zeros_(classifier.rnn.bias_modrelu_l0)
    norms = gradients.gradient_norms(classifier, images, torch.arange(5))
    assert len(norms) == 16
    # modReLU is then the identity, and every step a rotation
    assert norms == pytest.approx([norms[-1]] * 16, rel=1e-5)


def test_a_contracting_network_loses_it(images: torch.Tensor) -> None:
    classifier = DigitClassifier(6, filter="momentum", recurrence="rnn_tanh")
    with torch.no_grad():
        classifier.rnn.weight_hh_l0.copy_(0.5 * torch.eye(6))
    norms = gradients.gradient_norms(classifier, images, torch.arange(5))
    assert all(before <= 0.5 * after for before, after in pairwise(norms))


def test_the_last_step_is_the_heads_gradient(images: torch.Tensor) -> None:
    classifier = DigitClassifier(6).double()
    labels, images = torch.arange(5), images.double()
    probabilities = classifier(images).detach().softmax(dim=1)
    errors = probabilities - torch.nn.functional.one_hot(labels, 10)
    expected = (errors @ classifier.head.weight.detach()).norm(dim=1).mean()
    assert gradients.gradient_norms(classifier, images, labels)[-1] == pytest.approx(
        float(expected), rel=1e-9
    )


def test_the_command_draws_every_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "gradients"
    arguments = ["--iterations", "0", "2", "--hidden-size", "4", "--data", str(tmp_path), "--out", str(out)]
    assert gradients.main(arguments) == 0
    assert f"{tmp_path} has no MNIST: drawing the gradients on optdigits instead" in capsys.readouterr().out
    with out.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        curve = curves.setdefault((row["recurrence"], row["filter"], row["iteration"]), [])
        curve.append(float(row["norm"]))
        assert int(row["t"]) == len(curve)
    cells = [(cell, rule) for cell in ("lstm", "rnn_tanh", "orthogonal") for rule in ("identity", "momentum")]
    assert set(curves) == {(*cell, iteration) for cell in cells for iteration in ("0", "2")}
    assert all(len(curve) == 64 for curve in curves.values())
    for cell in cells:  # two steps of training show
        assert curves[(*cell, "0")] != curves[(*cell, "2")]
    first = out.with_suffix(".svg").read_bytes()
    assert b"<svg" in first
    assert gradients.main(arguments) == 0
    assert out.with_suffix(".svg").read_bytes() == first


def test_mnist_is_found_where_it_is(shared_datasets: Path) -> None:
    assert has_mnist(shared_datasets)


def test_half_of_mnist_is_none(tmp_path: Path) -> None:
    for name in list(FILES)[:3]:
        (tmp_path / name).touch()
    assert not has_mnist(tmp_path)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{list(FILES)[3]}.gz").touch()
    assert has_mnist(tmp_path)


@pytest.mark.parametrize("arguments", [["--iterations", "-1"], ["--hidden-size", "0"], ["--iterations", "x"]])
def test_wrong_arguments_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        gradients.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err
