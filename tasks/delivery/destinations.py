"""Which network addresses a worker may be called at (S3), and sockets that go nowhere else.

The check is made on the resolved address a socket is about to connect to, never on a name: a
name may answer with a public address first and a private one later (DNS rebinding).
"""

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .reach import Order, Spare, connect_first

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# `ipaddress.is_global` calls some of these public (224.0.0.1, 192.88.99.1, fec0::1), so the
# ranges are spelled out.
_NEVER = _networks(
    "169.254.0.0/16",  # link-local, with the metadata services of most clouds
    "100.100.100.200/32",  # metadata: Alibaba
    "192.0.0.0/24",  # IETF protocols; metadata: Oracle
    "168.63.129.16/32",  # metadata: Azure
    "fd00:ec2::/32",  # metadata: AWS
    "fd20:ce::/32",  # metadata: Google
    "fe80::/10",
    "fec0::/10",  # site-local, withdrawn
    "0.0.0.0/8",
    "224.0.0.0/4",
    "240.0.0.0/4",  # reserved, and broadcast
    "192.0.2.0/24",  # documentation, as the next three
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
    "192.88.99.0/24",  # 6to4 relays, withdrawn
    "2001::/23",  # Teredo, ORCHID and other protocols
    "3fff::/20",  # documentation
    "ff00::/8",
)
_LOCAL = _networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # carrier-grade NAT
    "198.18.0.0/15",  # benchmarks
    "::1/128",
    "fc00::/7",
)
# All other IPv6 is unassigned.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_MEETS_WITHIN = 2.0  # seconds that a start waits for the name of the base host


class DestinationError(ValueError):
    """This address is not one that workers may be called at."""


@dataclass(slots=True)
class Met:
    """What the base host was when its name was first looked up; None before."""

    is_public: bool | None = None


@dataclass(frozen=True, slots=True)
class Destinations:
    """Public addresses are allowed; local ones only in `nets`, or for the operator's own host.

    A call whose host is `base_host`, the host of the workers' base URL, may go to whatever
    local address that name has: the operator chose it. But not if all of its addresses were public
    at first: then it is not the operator who says now that it is here. Link-local, metadata,
    multicast and reserved addresses are refused for every host and whatever `nets` says.
    """

    base_host: str = ""
    nets: tuple[Network, ...] = ()
    met: Met = field(default_factory=Met, compare=False)

    @classmethod
    def of(cls, base: str, nets: Iterable[str]) -> "Destinations":
        """ValueError when a network is not in CIDR form."""
        return cls(_plain(urlsplit(base).hostname or ""), _networks(*nets))

    def check(self, host: str, address: str) -> None:
        # A link-local address may carry its interface: fe80::1%eth0.
        try:
            given = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise DestinationError(f"{address!r} is not an IP address") from None
        meant = _meant(given)
        if _within(given, _NEVER) or _within(meant, _NEVER) or _is_unassigned(meant):
            raise DestinationError(f"{address} is an address that workers are never called at")
        is_local, is_ours = _within(meant, _LOCAL), _plain(host) == self.base_host
        if not is_local or (is_ours and not self.met.is_public):
            return
        if not (_within(meant, self.nets) or _within(given, self.nets)):
            was = f", and {self.base_host} was a public one at first" if is_ours else ""
            raise DestinationError(
                f"{address} is a local address outside CREW_WORKER_ALLOW_NETS{was}"
            )

    def check_literal(self, host: str) -> None:
        """Check a host that is itself an address, in any spelling; let names pass."""
        host = _plain(host)
        try:
            self.check(host, str(ipaddress.ip_address(host.partition("%")[0])))
        except DestinationError:
            raise
        except ValueError:
            # Decimal, hexadecimal, octal and short IPv4 forms, as every resolver reads them.
            try:
                packed = socket.inet_aton(host)
            except OSError:
                return
            self.check(host, socket.inet_ntoa(packed))

    def meet(self, host: str, addresses: Iterable[str]) -> None:
        """These, which were checked, are what `host` has now. The first time counts."""
        if self.met.is_public is None and _plain(host) == self.base_host:
            self.met.is_public = not any(_is_local(address) for address in addresses)


def meet_base(destinations: Destinations, base: str) -> None:
    """At a start: look the base host up, so that it cannot be another kind of host later.

    A name that is not known yet, or not in time, is met by the first call.
    """
    parts = urlsplit(base)
    if parts.hostname:
        looking = threading.Thread(
            target=_meet, args=(destinations, parts.hostname, parts.port or 0), daemon=True
        )
        looking.start()
        looking.join(_MEETS_WITHIN)


def _meet(destinations: Destinations, host: str, port: int) -> None:
    # What is wrong with it is said by each call.
    with contextlib.suppress(OSError, ValueError):
        resolve(destinations, host, port)


def resolve(destinations: Destinations, host: str, port: int) -> list[Any]:
    """The addresses of `host` as `socket.getaddrinfo` gives them; all are checked.

    OSError when there are none, DestinationError when a single one must not be called.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    for address in addresses:
        destinations.check(host, address)
    destinations.meet(host, addresses)
    return found


def connect(
    destinations: Destinations,
    host: str,
    port: int,
    timeout: float | None,
    opened: Callable[[socket.socket], None],
    *,
    order: Order | None = None,
    spare: Spare | None = None,
) -> socket.socket:
    """A socket connected to the first address of `host` that answers; all are checked first.

    `opened` gets each socket before it connects, so that another thread can end the wait.
    """
    order = order or Order()
    found = order.sort(resolve(destinations, host, port))
    one, sock = connect_first(found, timeout, opened=opened, spare=spare)
    order.reached(one)
    sock.settimeout(timeout)
    return sock


def _is_local(address: str) -> bool:
    return _within(_meant(ipaddress.ip_address(address.partition("%")[0])), _LOCAL)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _within(address: Address, networks: Iterable[Network]) -> bool:
    # An address is never in a network of the other version, so both may be mixed.
    return any(address in network for network in networks)


def _is_unassigned(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return False
    return address not in _PUBLIC_IPV6 and not _within(address, _LOCAL)
