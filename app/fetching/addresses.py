"""Which addresses may be reached: plainly global unicast ones, and networks that the operator named.

``ipaddress.is_global`` of Python 3.11 is not enough: it passes 64:ff9b::7f00:1, 2002:7f00:1::, ::127.0.0.1, fec0::1
and 224.0.0.1. So the table stands here, from the IANA registries iana-ipv4-special-registry and
iana-ipv6-special-registry (RFC 6890 and its updates), read strictly: what is special is refused even where the
registry calls it globally reachable (AS112, AMT, anycast relays), because no image lives there.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598), also Alibaba's metadata 100.100.100.200
        "127.0.0.0/8",  # loopback (RFC 1122)
        "168.63.129.16/32",  # Azure's platform channel, reachable from every guest
        "169.254.0.0/16",  # link-local (RFC 3927), also the metadata service of most clouds
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890), also Oracle's metadata 192.0.0.192
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.31.196.0/24",  # AS112 (RFC 7535)
        "192.52.193.0/24",  # AMT (RFC 7450)
        "192.88.99.0/24",  # 6to4 relay anycast (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "192.175.48.0/24",  # AS112 (RFC 7534)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved (RFC 1112) and limited broadcast (RFC 8190)
    )
)

# All that IANA has given out as global unicast; everything outside is refused without further look: unspecified,
# loopback, IPv4-compatible ::/96, 100::/64 discard, 5f00::/16 SRv6, fc00::/7 unique local, fe80::/10 link-local,
# fec0::/10 site-local, ff00::/8 multicast, and what is not assigned.
GLOBAL_UNICAST_IPV6 = IPv6Network("2000::/3")

SPECIAL_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments (RFC 2928): Teredo, benchmarks 2001:2::/48, ORCHID, DRIP, anycast
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4 (RFC 3056): carries an IPv4 address
        "2620:4f:8000::/48",  # AS112 (RFC 7534)
        "3ffe::/16",  # 6bone, given back (RFC 3701)
        "3fff::/20",  # documentation (RFC 9637)
    )
)

IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
# The one translation prefix that IPv6-only networks use to reach the public IPv4 internet (RFC 6052); the local-use
# prefix 64:ff9b:1::/48 (RFC 8215) is refused whole, since where its IPv4 address sits cannot be known.
NAT64 = IPv6Network("64:ff9b::/96")
# ISATAP (RFC 5214): these two interface identifiers are followed by an IPv4 address.
ISATAP_MARKS = (0x0000_5EFE, 0x0200_5EFE)


class AddressGuard:
    """Decides on addresses; knows nothing of sockets, so that every client of this service can ask it."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        """``allowed_networks`` are let through whatever they are; an IPv4 one covers its IPv4-mapped form too.

        Raises ValueError where one is not a network.
        """
        self._allowed = tuple(_unmapped_network(ip_network(network)) for network in allowed_networks)

    def is_allowed(self, address: str | Address) -> bool:
        """Whether a connection to this address may be opened; what is no address is refused."""
        try:
            found = _unmapped(ip_address(address))
        except ValueError:
            return False
        return is_plainly_global(found) or any(_holds(network, found) for network in self._allowed)


def is_plainly_global(address: Address) -> bool:
    """Whether it is an ordinary unicast address of the public internet, and so is any IPv4 address inside it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_IPV4)
    if address.scope_id is not None:
        return False
    if address in IPV4_MAPPED or address in NAT64:
        return is_plainly_global(_last_ipv4(address))
    if address not in GLOBAL_UNICAST_IPV6 or any(address in network for network in SPECIAL_IPV6):
        return False
    is_isatap = (int(address) >> 32) & 0xFFFF_FFFF in ISATAP_MARKS
    return not is_isatap or is_plainly_global(_last_ipv4(address))


def _last_ipv4(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)


def _unmapped(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _unmapped_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.subnet_of(IPV4_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


def _holds(network: IPv4Network | IPv6Network, address: Address) -> bool:
    return network.version == address.version and int(address) & int(network.netmask) == int(network.network_address)
