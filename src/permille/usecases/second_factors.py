"""The second factor of sign-in: codes of an app by time (RFC 6238), and recovery codes for when the app is lost."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pyotp
from psycopg import Connection

from permille.core.errors import Invalid, NotFound
from permille.store import second_factors, users
from permille.store.second_factors import SecondFactor
from permille.store.users import User
from permille.usecases.users import other_member

ISSUER = "Permille"
RECOVERY_CODES = 10
STEP_SECONDS = 30
STEPS_OFF = 1
"""A clock may be so many steps ahead or behind."""
_RECOVERY_LENGTH = 16
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_DIGITS = 6


def is_on(conn: Connection[Any], user: User) -> bool:
    """Whether the user is asked for codes."""
    found = second_factors.of_user(conn, user.id)
    return found is not None and found.confirmed_at is not None


def begin(conn: Connection[Any], user: User, *, now: datetime) -> None:
    """Draw a secret for the user's app. Raises Invalid when there is a second factor already."""
    if is_on(conn, user):
        raise Invalid({"base": ["second_factor_is_on"]})
    second_factors.begin(conn, user.id, secret=pyotp.random_base32(), now=now)


def address_of(factor: SecondFactor, user: User) -> str:
    """What the app reads from the QR code."""
    return pyotp.TOTP(factor.secret).provisioning_uri(name=user.email, issuer_name=ISSUER)


def confirm(conn: Connection[Any], user: User, code: str, *, now: datetime) -> Sequence[str]:
    """Ask for codes from now on, since the app makes the right ones: the recovery codes. Raises Invalid."""
    found = second_factors.of_user(conn, user.id)
    if found is None or not _is_code(conn, found, user.id, _plain(code), now=now):
        raise Invalid({"code": ["wrong_code"]})
    if not second_factors.confirm(conn, user.id, now=now):
        raise Invalid({"base": ["second_factor_is_on"]})
    return renew_recovery_codes(conn, user)


def is_right(conn: Connection[Any], user: User, code: str, *, now: datetime) -> bool:
    """Whether it is a code of the user's app or a recovery code; either works once."""
    found, plain = second_factors.of_user(conn, user.id), _plain(code)
    if found is None or found.confirmed_at is None:
        return False
    if len(plain) == _RECOVERY_LENGTH:
        return second_factors.use_recovery_code(conn, user.id, users.digest_of(plain))
    return _is_code(conn, found, user.id, plain, now=now)


def _plain(code: str) -> str:
    return "".join(code.split()).replace("-", "").lower()


def _is_code(conn: Connection[Any], factor: SecondFactor, user_id: UUID, code: str, *, now: datetime) -> bool:
    """Whether it is the code of a time step near now that is later than the last one taken."""
    if len(code) != _DIGITS or not (code.isascii() and code.isdigit()):
        return False
    step, app = int(now.timestamp()) // STEP_SECONDS, pyotp.TOTP(factor.secret)
    near = range(step - STEPS_OFF, step + STEPS_OFF + 1)
    found = [each for each in near if hmac.compare_digest(app.generate_otp(each), code)]
    return bool(found) and second_factors.use_step(conn, user_id, found[-1])


def renew_recovery_codes(conn: Connection[Any], user: User) -> Sequence[str]:
    """New recovery codes; the ones before work no more. Only digests are kept."""
    drawn = [
        "".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)
    ]
    second_factors.replace_recovery_codes(conn, user.id, [users.digest_of(each) for each in drawn])
    return ["-".join(each[n : n + 4] for n in range(0, _RECOVERY_LENGTH, 4)) for each in drawn]


def turn_off(conn: Connection[Any], user: User) -> None:
    """Ask the user for no codes any more."""
    second_factors.remove(conn, user.id)


def reset_member(conn: Connection[Any], organization_id: UUID, user_id: UUID | None, *, by: User) -> User:
    """Turn it off for a member who has lost it. Raises NotFound and Invalid.

    Of a member of other organizations, too, only an owner may: it protects those as well.
    """
    found = other_member(conn, organization_id, user_id, by=by)
    if not by.is_owner and users.memberships(conn, found.id) > 1:
        raise Invalid({"base": ["member_elsewhere"]})
    if not second_factors.remove(conn, found.id):
        raise NotFound("second_factor")
    return found


def reset_by_email(conn: Connection[Any], email: str) -> bool:
    """Turn it off for the user with this email; whether there was one to turn off."""
    found = users.by_email(conn, email)
    return found is not None and second_factors.remove(conn, found.id)
