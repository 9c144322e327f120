"""Addresses that a download may connect to: http and https on the public internet.

A catalogue is an untrusted file, and an address in it (or one that a server redirects to) can point at a router, at
a cloud's metadata service or at a database beside us: server-side request forgery (OWASP's SSRF prevention cheat
sheet). The check is made where the socket is opened, on the very address that it is about to connect to. So a name
that means another address a moment later (DNS rebinding), or a number in disguise (2130706433), cannot get round it,
while TLS still checks the name. What is public is what RFC 6890's registries say, as `ipaddress` knows them.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from yarl import URL

if TYPE_CHECKING:
    from aiohttp import AddrInfoType

SCHEMES = ("http", "https")

_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


class AddressRefused(OSError):
    """A poster may not come from this address; an OSError, since it is raised in place of connecting."""


def parse_address(text: str) -> URL:
    """Return the address as a URL. Raises AddressRefused unless it is an http or https one that names a host."""
    try:
        url = URL(text)
        if url.scheme in SCHEMES and url.host and url.port:
            return url
    except ValueError as error:
        raise AddressRefused(f"no address of a file on the web: {error}") from error
    raise AddressRefused(f"neither http nor https: {text[:100]}")


def open_public_socket(info: AddrInfoType) -> socket.socket:
    """Open the socket for one resolved address, for aiohttp's `socket_factory`.

    Raises AddressRefused for an address that is not public.
    """
    family, kind, protocol, _, (host, *_) = info
    if not is_public(str(host)):
        raise AddressRefused(errno.EACCES, f"{host} is not on the public internet")
    return socket.socket(family, kind, protocol)


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet; one that wraps an IPv4 address is judged by that.

    Raises ValueError when the text is no IP address.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    wrapped = _wrapped_in(ip)
    return ip in _UNICAST and ip.is_global if wrapped is None else is_public(str(wrapped))


def _wrapped_in(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a mapped, 6to4 or NAT64 address leads to."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour
