"""The digit classifier and its initialisations."""

from typing import Any

import numpy as np
import pytest
import torch

from models import DigitClassifier, orthogonal_parameters, stretch_memory_


def test_pieces_are_the_whole_and_logits_come_along_the_way() -> None:
    torch.manual_seed(0)
    classifier = DigitClassifier(hidden_size=8, num_layers=2).double()
    pixels = torch.rand(3, 28, 28, dtype=torch.float64)
    every, _ = classifier.read(pixels)
    assert every.shape == (3, 784, 10)
    rows, _ = classifier.read(pixels, every=28)
    torch.testing.assert_close(rows, every[:, 27::28])
    uneven, _ = classifier.read(pixels, every=300)
    torch.testing.assert_close(uneven, every[:, [299, 599, 783]])
    torch.testing.assert_close(classifier(pixels), every[:, -1])
    first, state = classifier.read(pixels.flatten(1)[:, :500])
    second, _ = classifier.read(pixels.flatten(1)[:, 500:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), every)


def test_permutation_reads_in_its_order() -> None:
    torch.manual_seed(0)
    order = torch.randperm(16)
    permuted = DigitClassifier(hidden_size=8, permutation=order.tolist())
    plain = DigitClassifier(hidden_size=8)
    plain.load_state_dict(
        {name: value for name, value in permuted.state_dict().items() if name != "permutation"}
    )
    pixels = torch.rand(3, 4, 4)
    torch.testing.assert_close(permuted(pixels), plain(pixels.flatten(1)[:, order]))
    assert not torch.allclose(permuted(pixels), plain(pixels))
    with pytest.raises(ValueError, match="expected 16 pixels, which this model permutes, got 9"):
        permuted(torch.rand(1, 9))


def test_a_seed_is_the_authors_permutation_spelt_out() -> None:
    classifier = DigitClassifier(hidden_size=4, permutation=3)
    expected = np.random.RandomState(3).permutation(784).tolist()
    assert classifier.permutation is not None
    assert classifier.permutation.tolist() == expected
    assert classifier.config["permutation"] == expected
    assert expected[:4] == [294, 102, 51, 453]  # the same for ever
    with pytest.raises(ValueError, match="expected 784 pixels, which this model permutes, got 64"):
        classifier(torch.rand(1, 8, 8))


def test_config_builds_the_same_network_again() -> None:
    classifier = DigitClassifier(
        hidden_size=8, permutation=[2, 0, 1], filter_options={"mu": 0.5, "epsilon": 0.2}
    )
    again = DigitClassifier(**classifier.config)
    again.load_state_dict(classifier.state_dict())
    pixels = torch.rand(2, 3)
    assert torch.equal(again(pixels), classifier(pixels))


@pytest.mark.parametrize("permutation", [[0, 0, 1], [1, 2, 3], [0, 2]])
def test_a_wrong_permutation_is_refused(permutation: list[int]) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        DigitClassifier(permutation=permutation)


def test_an_unknown_initialization_is_refused() -> None:
    with pytest.raises(ValueError, match="initialization must be"):
        DigitClassifier(initialization="zeros")  # type: ignore[arg-type]


@pytest.mark.parametrize("initialization", ["chrono", "authors"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recurrence": "gru"}, "for the gates of an LSTM, got a network of GRU"),
        (
            {"recurrence": "orthogonal", "bias": False},
            "for the gates of an LSTM, got a network of Orthogonal",
        ),
        ({"bias": False}, "sets the biases of an LSTM's gates, got a network without"),
    ],
)
def test_an_initialisation_of_gates_needs_an_lstm(
    initialization: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DigitClassifier(hidden_size=4, initialization=initialization, **options)


def test_stretching_memory_needs_an_lstm() -> None:
    with pytest.raises(ValueError, match="stretching the memory is for the gates of an LSTM"):
        stretch_memory_(DigitClassifier(hidden_size=4, recurrence="gru").rnn, 0.5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "chrono"), ({"bias": False}, "torch"), ({"recurrence": "orthogonal"}, "torch")],
)
def test_the_initialisation_suits_the_recurrence(options: dict[str, Any], expected: str) -> None:
    torch.manual_seed(0)
    classifier = DigitClassifier(hidden_size=4, **options)
    torch.manual_seed(0)
    same = DigitClassifier(hidden_size=4, **options, initialization=expected)  # type: ignore[arg-type]
    assert classifier.config["initialization"] == expected
    for name, value in same.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], value), name


def test_an_orthogonal_classifier_without_bias_is_its_config() -> None:
    classifier = DigitClassifier(hidden_size=6, filter="identity", recurrence="orthogonal", bias=False)
    assert not [name for name, _ in classifier.rnn.named_parameters() if "bias_ih" in name]
    assert len(orthogonal_parameters(classifier)) == 1
    again = DigitClassifier(**classifier.config)
    again.load_state_dict(classifier.state_dict())
    pixels = torch.rand(2, 9)
    assert torch.equal(again(pixels), classifier(pixels))


def test_chrono_spans_the_memory_asked_for() -> None:
    classifier = DigitClassifier(hidden_size=64, longest=100)
    i, f, g, o = classifier.rnn.bias_hh_l0.detach().chunk(4)
    torch.testing.assert_close(i, -f)
    # a forget gate of sigmoid(b) remembers for about 1 + exp(b) steps
    assert f.exp().min() >= 1.0
    assert 50.0 < f.exp().max() <= 99.0
    assert not torch.any(torch.cat([g, o, classifier.rnn.bias_ih_l0.detach()]))
    for gate in classifier.rnn.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(64), rtol=0, atol=1e-5)


def test_authors_initialisation() -> None:
    classifier = DigitClassifier(hidden_size=16, initialization="authors")
    rnn = classifier.rnn
    torch.testing.assert_close(rnn.weight_ih_l0.T @ rnn.weight_ih_l0, torch.ones(1, 1))
    assert torch.equal(rnn.weight_hh_l0.detach(), torch.eye(64, 16))
    for bias in (rnn.bias_ih_l0, rnn.bias_hh_l0):
        assert torch.equal(bias.detach(), torch.cat([torch.zeros(16), torch.ones(16), torch.zeros(32)]))


def test_stretching_memory_multiplies_it() -> None:
    classifier = DigitClassifier(hidden_size=16, num_layers=2)
    before = [bias.detach().clone() for name, bias in classifier.rnn.named_parameters() if "bias_hh" in name]
    stretch_memory_(classifier.rnn, 0.7)
    after = [bias.detach() for name, bias in classifier.rnn.named_parameters() if "bias_hh" in name]
    shift = torch.cat([torch.full((16,), -0.7), torch.full((16,), 0.7), torch.zeros(32)])
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new - old, shift)


def test_an_empty_batch_and_a_wrong_stride() -> None:
    classifier = DigitClassifier(hidden_size=8)
    assert classifier(torch.zeros(0, 28, 28)).shape == (0, 10)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        classifier.read(torch.zeros(1, 4), every=0)
