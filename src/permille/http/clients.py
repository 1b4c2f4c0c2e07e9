"""Who a request comes from. Behind PERMILLE_TRUSTED_PROXIES the server has put the client in the proxy's place."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

_IPV6_NETWORK_BYTES = 8


def client_address(scope: Mapping[str, Any]) -> str:
    """The address of the client of an ASGI request, empty where there is none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def household(address: str) -> str:
    """What limits count by: an IPv4 address, or the /64 of an IPv6 address, all of which one client has."""
    try:
        ip = ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(ip.packed[:_IPV6_NETWORK_BYTES] + bytes(_IPV6_NETWORK_BYTES))}/64"
