"""Addresses of listeners, as they are written."""

import pytest

from broker.app.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7600", "127.0.0.1", 7600),
        ("[::1]:7600", "::1", 7600),
        ("broker.example:0", "broker.example", 0),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
    ],
)
def test_address_is_read_and_written_the_same(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("7600", "has no port"),
        ("::1:7600", "is an IPv6 address without brackets"),
        ("[nonsense]:1", "has no IPv6 address in its brackets"),
        (":7600", "has no host"),
        ("a host:1", "has no host"),
        ("host:65536", "has no port between 0 and 65535"),
        ("host:-1", "has no port between 0 and 65535"),
        ("host:", "has no port between 0 and 65535"),
        ("host:\u0661", "has no port between 0 and 65535"),
    ],
)
def test_wrong_address_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("localhost.example", False),
        ("loopback", False),
    ],
)
def test_only_literal_loopback_counts_as_this_machine(host: str, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback is is_loopback
