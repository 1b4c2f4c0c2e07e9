"""What the log of requests shows of bodies."""

from __future__ import annotations

from permille.core.api_log import NOT_SHOWN, shown


def test_secrets_and_events_are_not_shown() -> None:
    body = {
        "event": {"properties": {"prompt": "private"}},
        "settings": [
            {"smtp_password": "x", "hmac_key": "y", "API-Key": "z", "token": "t", "clientSecret": 1}
        ],
        "metadata": [{"key": "team", "value": "a"}],
        "charge": {"properties": {"amount": "1"}, "field_name": "tokens"},
    }
    assert shown(body) == {
        "event": NOT_SHOWN,
        "settings": [
            {
                "smtp_password": NOT_SHOWN,
                "hmac_key": NOT_SHOWN,
                "API-Key": NOT_SHOWN,
                "token": NOT_SHOWN,
                "clientSecret": NOT_SHOWN,
            }
        ],
        "metadata": [{"key": "team", "value": "a"}],
        "charge": {"properties": {"amount": "1"}, "field_name": "tokens"},
    }
