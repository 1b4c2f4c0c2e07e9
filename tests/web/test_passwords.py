"""What a password costs to try, as it is in earnest: all other tests of pages have cheap hashes."""

from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters

from permille.web import security


@pytest.fixture(scope="module", autouse=True)
def quick_passwords() -> None:
    """Not here."""


def test_a_hash_has_the_parameters_of_the_library() -> None:
    kept = asyncio.run(security.hash_password("a long password"))
    assert kept.startswith("$argon2id$")
    assert not PasswordHasher().check_needs_rehash(kept)
    assert extract_parameters(kept).memory_cost >= 65_536
    assert asyncio.run(security.is_password("a long password", kept))
    assert not asyncio.run(security.is_password("another password", kept))


def test_without_a_user_a_password_takes_as_long_to_check_as_with_one() -> None:
    assert not security._hasher.check_needs_rehash(security._NOBODY)
    assert not asyncio.run(security.is_password("a long password", None))
