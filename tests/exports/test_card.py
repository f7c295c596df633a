"""Reading cards."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.card import Card, CardError


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema_version": 2}', b"\xff\xfe"])
def test_what_is_no_card_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(CardError, match=r"card\.json: .*export the model again"):
        Card.read(path)


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read"):
        Card.read(tmp_path / "card.json")


@given(st.binary(max_size=200))
def test_garbage_never_gets_further(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("card") / "card.json"
    path.write_bytes(content)
    with pytest.raises(CardError):
        Card.read(path)
