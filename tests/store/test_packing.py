"""Bodies of webhooks, packed."""

from __future__ import annotations

import zlib
from importlib.resources import files

import pytest
from hypothesis import given, strategies as st

from permille.store.packing import pack, unpack

DICTIONARY = (files("permille.store") / "webhook_dictionary.json").read_bytes()


@given(
    st.one_of(
        st.binary(), st.text().map(str.encode), st.binary(max_size=40).map(lambda each: DICTIONARY + each)
    )
)
def test_what_was_packed_is_unpacked(body: bytes) -> None:
    assert unpack(pack(body)) == body


def test_the_dictionary_is_the_one_that_bodies_were_packed_with() -> None:
    """Who changes the file can read no body that an installation has kept."""
    assert zlib.adler32(DICTIONARY) == int.from_bytes(pack(b"")[2:6]) == 778_953_941


def test_what_is_like_the_dictionary_gets_small() -> None:
    body = DICTIONARY.replace(b"0000-7000", b"1234-7abc").replace(b"customer", b"payer")
    assert len(pack(body)) < len(body) / 20


def test_what_is_no_packed_body_is_refused() -> None:
    with pytest.raises(zlib.error):
        unpack(b'{"webhook_type":"invoice.created"}')
