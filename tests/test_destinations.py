import socket

import pytest

from tasks.delivery.destinations import DestinationError, Destinations, connect

PUBLIC = Destinations.of("https://workers.example/", [])

NEVER = [
    *("169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "239.1.1.1"),  # noqa: S104
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("::", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254"),
    *("fd20:ce::254", "::169.254.169.254", "::ffff:169.254.169.254", "::ffff:0.0.0.0"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:a9fe:a9fe::"),
    *("2002:6464:64c8::1", "2001:0:a9fe:a9fe::", "2001:db8::1", "100::1", "4000::1", "3fff::1"),
]
LOCAL = [
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("100.64.0.1", "198.18.0.1", "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1"),
    *("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::1"),
]


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_the_operator_says(address):
    for destinations in (PUBLIC, Destinations.of("http://h/", ["0.0.0.0/0", "::/0"])):
        with pytest.raises(DestinationError, match="never called at"):
            destinations.check("h", address)


@pytest.mark.parametrize("address", LOCAL)
def test_local_addresses_need_a_word_of_the_operator(address):
    with pytest.raises(DestinationError, match="outside CREW_WORKER_ALLOW_NETS"):
        PUBLIC.check("other.example", address)

    PUBLIC.check("workers.example", address)
    Destinations.of("", ["0.0.0.0/0", "::/0"]).check("other.example", address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"],
)
def test_public_addresses_are_allowed(address):
    PUBLIC.check("any.example", address)


@pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "0x7f000001", "::g", "1.2.3.4/8"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(DestinationError, match="is not an IP address"):
        PUBLIC.check("h", address)


def test_an_allowed_net_allows_no_other():
    destinations = Destinations.of("", ["10.1.0.0/16", "fd12::/16"])

    destinations.check("h", "10.1.2.3")
    destinations.check("h", "::ffff:10.1.2.3")
    destinations.check("h", "fd12::1")
    for address in ("10.2.0.1", "127.0.0.1", "fd13::1", "::1"):
        with pytest.raises(DestinationError):
            destinations.check("h", address)


@pytest.mark.parametrize("net", ["10.0.0.1/8", "x", "10.0.0.0/33"])
def test_a_bad_net_is_refused(net):
    with pytest.raises(ValueError):
        Destinations.of("http://h/", [net])


@pytest.mark.parametrize("host", ["WORKERS.example", "workers.example.", "workers.EXAMPLE"])
def test_the_base_host_is_known_in_any_spelling(host):
    PUBLIC.check(host, "10.0.0.1")


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "2852039166", "0xA9FEA9FE", "0xa9.0xfe.0xa9.0xfe", "[fe80::1%25eth0]"),
        *("0251.0376.0251.0376", "169.254.43518", "[::ffff:a9fe:a9fe]", "0", "[::]"),
    ],
)
def test_a_host_that_is_an_address_is_checked_in_every_spelling(host):
    with pytest.raises(DestinationError):
        PUBLIC.check_literal(host)


@pytest.mark.parametrize("host", ["", "localhost", "worker.example", "8.8.8.8", "[2606:4700::1]"])
def test_a_name_or_a_public_address_is_let_pass(host):
    PUBLIC.check_literal(host)


def answering(monkeypatch, *answers):
    """The resolver gives these lists of addresses, one list at each question."""
    left = list(answers)

    def resolve(host, port, *args, **kwargs):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


AT_FIRST_PUBLIC = ["8.8.8.8"], ["8.8.8.8", "2606:4700::1111"], ["64:ff9b::8.8.8.8"]
AT_FIRST_LOCAL = ["127.0.0.1"], ["10.0.0.1"], ["fd12::1"], ["8.8.8.8", "10.0.0.1"]


@pytest.mark.parametrize("first", AT_FIRST_PUBLIC)
@pytest.mark.parametrize("address", LOCAL)
def test_s3_a_base_host_that_was_public_is_not_called_when_it_is_local(first, address):
    destinations = Destinations.of("https://Workers.example/", ["10.0.0.0/8"])
    destinations.meet("workers.example.", first)
    destinations.meet("workers.example", [address])  # the first time counts

    destinations.check("workers.example", "1.1.1.1")
    destinations.check("workers.example", "10.1.2.3")
    if not any(part in address for part in ("10.0.0.1", "2002:0a00")):
        with pytest.raises(DestinationError, match="was a public one at first"):
            destinations.check("WORKERS.example.", address)


@pytest.mark.parametrize("first", AT_FIRST_LOCAL)
def test_s3_a_base_host_that_was_local_may_move(first):
    destinations = Destinations.of("http://worker:9000/", [])
    destinations.meet("worker", first)

    for address in (*LOCAL, "8.8.8.8"):
        destinations.check("worker", address)
    for address in NEVER:
        with pytest.raises(DestinationError, match="never called at"):
            destinations.check("worker", address)


def test_another_host_says_nothing_of_the_base(monkeypatch):
    destinations = Destinations("h")
    destinations.meet("other", ["8.8.8.8"])

    destinations.check("h", "10.0.0.1")


def test_connect_goes_to_the_address_it_checked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # A second question would get the forbidden answer.
        answering(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
        opened = []

        with connect(Destinations("h"), "h", port, 5, opened.append) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
            assert opened == [sock]

        with pytest.raises(DestinationError):
            connect(Destinations("h"), "h", port, 5, opened.append)
        assert len(opened) == 1


def test_connect_tries_the_next_address(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answering(monkeypatch, ["127.0.0.2", "127.0.0.1"])

        with connect(Destinations("h"), "h", port, 5, lambda sock: None) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


def test_one_forbidden_address_among_several_refuses_the_name(monkeypatch):
    answering(monkeypatch, ["127.0.0.1", "169.254.169.254"])

    with pytest.raises(DestinationError, match=r"169\.254"):
        connect(Destinations("h"), "h", 1, 5, lambda sock: None)
