"""Settings from the environment: typed, complete, and an error names the variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from permille.config import Config, ConfigError, Networks, from_environment, unknown_variables


def test_nothing_set_gives_the_defaults() -> None:
    assert from_environment({}) == Config()
    assert Config().admin_key is None
    assert Config().events_batch_max == 1_000
    assert Config().max_body_bytes == 10 * 1024 * 1024


def test_every_setting_is_read_with_its_type() -> None:
    config = from_environment(
        {
            "PERMILLE_DATABASE_URL": "postgresql://db/x",
            "PERMILLE_DATA_DIR": "/var/data",
            "PERMILLE_ADMIN_KEY": "12345678",
            "PERMILLE_HOST": "::",
            "PERMILLE_PORT": "80",
            "PERMILLE_EVENTS_BATCH_MAX": "100",
            "PERMILLE_LOG_LEVEL": "WARNING",
            "PERMILLE_PUBLIC_URL": "https://billing.example.com/",
            "PERMILLE_WEBHOOK_ALLOW_PRIVATE": "true",
            "PERMILLE_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "HOME": "/home/x",
        }
    )
    assert config.database_url == "postgresql://db/x"
    assert config.data_dir == Path("/var/data")
    assert config.admin_key == "12345678"
    assert (config.host, config.port, config.events_batch_max) == ("::", 80, 100)
    assert config.log_level == "warning"
    assert config.base_url == "https://billing.example.com"
    assert config.webhook_allow_private is True
    assert config.trusted_proxies == Networks("::1,10.0.0.0/8")


def test_an_empty_value_counts_as_none() -> None:
    assert from_environment({"PERMILLE_ADMIN_KEY": "", "PERMILLE_PORT": "  "}) == Config()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PERMILLE_PORT", "http"),
        ("PERMILLE_PORT", "65536"),
        ("PERMILLE_EVENTS_BATCH_MAX", "0"),
        ("PERMILLE_MAX_BODY_BYTES", "10MB"),
        ("PERMILLE_LOG_LEVEL", "loud"),
        ("PERMILLE_PUBLIC_URL", "billing.example.com"),
        ("PERMILLE_WEBHOOK_ALLOW_PRIVATE", "perhaps"),
        ("PERMILLE_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("PERMILLE_TRUSTED_PROXIES", "*"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}={re.escape(value)}: "):
        from_environment({name: value})


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("PERMILLE_OIDC_ISSUER", "https://id.example", "PERMILLE_OIDC_CLIENT_ID"),
        ("PERMILLE_OIDC_DOMAINS", "example.com", "PERMILLE_OIDC_ORGANIZATION"),
    ],
)
def test_a_setting_that_needs_another_one_says_so(name: str, value: str, needed: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} needs {needed}"):
        from_environment({name: value})
    assert from_environment({name: value, needed: "x"})


def test_secrets_stay_out_of_the_text_of_the_settings() -> None:
    config = Config(admin_key="hush", database_url="postgresql://me:hush@db/x", oidc_client_secret="hush")
    assert "hush" not in repr(config)


def test_an_ipv6_address_is_bracketed_in_links() -> None:
    assert Config(host="::1", port=80).base_url == "http://[::1]:80"


def test_a_mistyped_variable_is_found() -> None:
    assert unknown_variables({"PERMILLE_PROT": "80", "PERMILLE_PORT": "80", "PATH": ""}) == ["PERMILLE_PROT"]


def test_networks_contain_addresses_in_every_form_and_nothing_else() -> None:
    networks = Networks("10.0.0.0/8, 2001:db8::/32,127.0.0.1")
    for address in ("10.1.2.3", "127.0.0.1", "2001:0db8::1"):
        assert address in networks
    for other in ("11.0.0.1", "127.0.0.2", "::1", "", "proxy", "10.0.0.0/8"):
        assert other not in networks
    assert not Networks()
    assert "127.0.0.1" not in Networks()
