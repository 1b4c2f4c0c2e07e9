"""Which addresses of the outside world we call on behalf of a user: none in private networks."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def private_address(url: str) -> str | None:
    """Why a live organization's URL may not be called: every address of its name must be a public one."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return f"{parts.hostname} was not found: {error}"
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).split("%")[0]).is_global:
            return f"{parts.hostname} is {address[0]}, which is no public address."
    return None
