"""Network addresses that may be reached: those of the public internet, and those that the user allows.

An address in a list, or in a redirect, may lead into the reader's own network: to a router's page, a database without
a password, a cloud's metadata with its keys (server-side request forgery). So each address is checked when the socket
for it is created, after all name resolution and redirects.

The tables follow IANA's registries of special-purpose addresses; `ipaddress.is_global` differs between Python's patch
releases (CVE-2024-4032) and counts multicast as global.
"""

import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from platform.errors import Fault

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL = {
    "this host": "0.0.0.0/8",
    "this machine": "127.0.0.0/8 ::1/128",
    "a private network": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
    "a provider's own network": "100.64.0.0/10",
    "link-local, where clouds keep their keys": "169.254.0.0/16",
    "link-local": "fe80::/10",
    "the host of a virtual machine in Azure": "168.63.129.16/32",  # in public space, and yet not public
    "multicast": "224.0.0.0/4 ff00::/8",
    "a relay to IPv6": "192.88.99.0/24",
    "6to4, which hides another address": "2002::/16",
    "reserved": "240.0.0.0/4",
    "reserved for benchmarks": "198.18.0.0/15",
    "reserved for documentation": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    "reserved for protocols": "192.0.0.0/24",
    "reserved for protocols, Teredo among them": "2001::/23",
}
_NOT_PUBLIC = {ip_network(network): what for what, all_of in _SPECIAL.items() for network in all_of.split()}
_PUBLIC_V6 = IPv6Network("2000::/3")  # all that has been allocated
_HOLD_V4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))  # IPv4-mapped, NAT64: the last four bytes


class ForbiddenAddress(OSError):  # noqa: N818 (an outcome, not a fault of the program)
    """Address, as the system writes it, to which no connection may be made, and what kind it is of."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__("forbidden address")  # the same text for all, so that aiohappyeyeballs reports one
        self.address, self.what = address, what


class AddressFilter:
    """Socket factory of a `TCPConnector` that only connects to public addresses and to the allowed networks."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self.allowed = tuple(allowed)

    def __call__(self, info: tuple) -> socket.socket:
        """Create a socket for an entry of `socket.getaddrinfo`: family, type, protocol, name, (address, port, …).

        Raises:
            ForbiddenAddress: The address must not be reached.
        """
        family, kind, protocol, _, place = info
        what = forbidden(place[0], self.allowed)
        if what is not None:
            raise ForbiddenAddress(place[0], what)
        return socket.socket(family, kind, protocol)


def forbidden(address: str, allowed: Iterable[Network] = ()) -> str | None:
    """Return the kind of an IPv4 or IPv6 address that must not be reached; None if it may be reached."""
    try:
        parsed = _inner(ip_address(address))
    except ValueError:
        return "not an address"
    if any(parsed in network for network in allowed):
        return None
    otherwise = "not allocated" if parsed.version == 6 and parsed not in _PUBLIC_V6 else None
    return next((what for network, what in _NOT_PUBLIC.items() if parsed in network), otherwise)


def networks(texts: Iterable[str]) -> tuple[list[Network], list[Fault]]:
    """Parse the allowed networks; return them and the faults of the others."""
    found: list[Network] = []
    faults = []
    for text in texts:
        try:
            found.append(ip_network(text.strip()))
        except ValueError as error:
            remedy = "Write an address or a network, for example 10.1.0.0/16."
            faults.append(Fault("--allow must be a network", f"{text} ({error})", remedy))
    return found, faults


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address contains, if it does."""
    if isinstance(address, IPv6Address) and any(address in network for network in _HOLD_V4):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
