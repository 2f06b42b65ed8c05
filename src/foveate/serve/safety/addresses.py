"""Which IP addresses are public, told from our own table of reserved blocks.

Owns the table and the IPv6 forms that carry an IPv4 address inside. Knows no names and no sockets. The standard
library's `is_global` is not used: its answer for several of these blocks has changed between Python releases.

Sources: IANA's IPv4 and IPv6 special-purpose address registries (RFC 6890, 8190); RFC 6052 (NAT64), 3056 (6to4),
4380 (Teredo), 5214 (ISATAP).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_RESERVED_4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this host, this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata service at 100.100.100.200
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; the metadata services of most clouds at 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata service at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "168.63.129.16/32",  # public by number, yet answered by the host of every Azure machine
    )
)
_GLOBAL_UNICAST_6 = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out; the rest is refused
_RESERVED_6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking, ...
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which wraps any IPv4 address; no longer in use
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # third quarter of the address; the fourth is an IPv4 address


@dataclass(frozen=True, kw_only=True)
class Reachable:
    """Decides on addresses: public ones, less `refused`, plus `private` ones named by the operator."""

    private: tuple[Network, ...] = field(default=())
    refused: tuple[Network, ...] = field(default=())

    @classmethod
    def of(cls, private: Iterable[str], refused: Iterable[str]) -> Reachable:
        """From networks as text; `ValueError` for what is none."""
        return cls(
            private=tuple(ipaddress.ip_network(network) for network in private),
            refused=tuple(ipaddress.ip_network(network) for network in refused),
        )

    def allows(self, address: Address) -> bool:
        """Whether a connection to it is allowed; every IPv4 address that it carries must be, too."""
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return False
        if _within(address, self.refused):
            return False
        inner = embedded(address)
        if inner is not None:
            return self.allows(inner)
        return _within(address, self.private) or is_public(address)


def is_public(address: Address) -> bool:
    """Whether it is a unicast address of the public internet; forms that carry an IPv4 address are judged by it."""
    if isinstance(address, ipaddress.IPv4Address):
        return not _within(address, _RESERVED_4)
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    return address in _GLOBAL_UNICAST_6 and not _within(address, _RESERVED_6)


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets for this one end up at: IPv4-mapped, NAT64's known prefix, ISATAP.

    6to4 and Teredo carry one too, and are never public.
    """
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    number = int(address)
    if address in _MAPPED or address in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
