"""Which addresses are called on behalf of a user: public ones, unless the caller may reach more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from permille.config import Config


class Reach(Enum):
    """How far a call may go."""

    PUBLIC = "public"
    LOOPBACK = "public and loopback"
    ANYWHERE = "anywhere"


def reach_of(config: Config, *, test_mode: bool) -> Reach:
    """How far calls for an organization may go to addresses that its users chose."""
    if config.webhook_allow_private:
        return Reach.ANYWHERE
    return Reach.LOOPBACK if test_mode else Reach.PUBLIC


class RefusedError(Exception):
    """The name was not found or leads to an address that may not be called; the message says which."""


# An address that these embed is judged in their place: what the kernel or a gateway really connects to.
_MAPPED = ip_network("::ffff:0:0/96")
_NAT64 = ip_network("64:ff9b::/96")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
"""Bytes 8 to 12, whatever the network."""

_GLOBAL_UNICAST = ip_network("2000::/3")
# Protocol assignments (with Teredo and ORCHID), 6to4 and its relays, documentation: no host of the internet is there.
_NOT_HOSTS = [
    ip_network(each)
    for each in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]


def addresses_of(host: str, port: int, reach: Reach, wait: Callable[[threading.Event], None]) -> list[str]:
    """Look up a name, all of whose addresses may be called. Raises RefusedError when one may not, or there is none.

    Name servers may take any time. `wait` waits for the look-up to end, and raises when that takes too long.
    """
    found: list[str] | OSError | ValueError = []
    ended = threading.Event()

    def look_up() -> None:
        nonlocal found
        try:
            found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, ValueError) as error:
            found = error
        ended.set()

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    wait(ended)
    if isinstance(found, Exception):
        raise RefusedError(f"{host} was not found: {found}") from found
    for address in found:
        if not is_allowed(address, reach):
            raise RefusedError(f"{host} is {address}, which is no public address.")
    return found


def is_allowed(address: str, reach: Reach) -> bool:
    """Whether an IP address may be called."""
    if reach is Reach.ANYWHERE:
        return True
    ip = _meant(ip_address(address.split("%", maxsplit=1)[0]))
    return _is_public(ip) or (reach is Reach.LOOPBACK and ip.is_loopback)


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address embeds, else itself."""
    if ip in _MAPPED or ip in _NAT64 or ip.packed[8:12] in _ISATAP:
        return IPv4Address(ip.packed[-4:])
    return ip


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in _NOT_HOSTS)
