"""Signatures of webhooks, as Lago makes them: HMAC-SHA256, or a JWT signed with the installation's RSA key.

What knows RSA takes 7 MiB, and is loaded by who signs with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_BITS = 2048


def draw_private_key() -> str:
    """A new RSA key as PEM text."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@lru_cache(maxsize=4)
def _loaded(private_pem: str) -> RSAPrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    key = serialization.load_pem_private_key(private_pem.encode(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return key


def public_pem(private_pem: str) -> str:
    """The public half, with which receivers verify."""
    from cryptography.hazmat.primitives import serialization

    public = _loaded(private_pem).public_key()
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def hmac_signature(body: bytes, *, hmac_key: str) -> str:
    """Base64 of the HMAC-SHA256 of the raw body under the organization's key."""
    return base64.b64encode(hmac.new(hmac_key.encode(), body, hashlib.sha256).digest()).decode()


_HEAD = b'{"alg":"RS256","typ":"JWT"}'


def jwt_signature(body: bytes, *, private_pem: str, issuer: str) -> str:
    """An RS256 token whose claim `data` is the body as a text; `issuer` is the address of the API."""
    claims = msgspec.json.encode({"data": body.decode(), "iss": issuer})
    signed = _base64url(_HEAD) + b"." + _base64url(claims)
    signature = _signature(_loaded(private_pem), signed)
    return (signed + b"." + _base64url(signature)).decode()


def _signature(key: RSAPrivateKey, signed: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def _base64url(content: bytes) -> bytes:
    # Half the time that base64.urlsafe_b64encode takes, which looks every byte up.
    return base64.b64encode(content).replace(b"+", b"-").replace(b"/", b"_").rstrip(b"=")
