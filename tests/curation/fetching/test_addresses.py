"""Tests of the addresses that may be reached."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.fetching.addresses import AddressFilter, ForbiddenAddress, forbidden, networks

# From https://www.iana.org/assignments/iana-ipv4-special-registry and its sister; the first and the last of each.
FORBIDDEN = [
    *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1"),
    *("127.255.255.255", "169.254.0.0", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.192"),
    *("192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.7"),
    *("203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.255", "100.100.100.200"),
    *("::", "::1", "::127.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:db8::1", "2002:0808:0808::1"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
]
HOLD_V4 = [ipaddress.ip_network("::ffff:0:0/96"), ipaddress.ip_network("64:ff9b::/96")]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255"),
    *("172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255", "2606:4700::1111", "2a00:1450::1"),
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_is_not_public_is_not_reached(address):
    assert forbidden(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_reached(address):
    assert forbidden(address) is None


@given(st.ip_addresses(v=4))
def test_nothing_global_is_forbidden_and_nothing_private_reached(address):
    special = address in ipaddress.ip_network("192.0.0.0/24") or address.is_multicast
    if not special and str(address) != "168.63.129.16" and not str(address).startswith("192.88.99."):
        assert (forbidden(str(address)) is None) == address.is_global


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::"]))
def test_an_address_within_another_is_judged_as_itself(address, prefix):
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + int(address))
    assert forbidden(str(outer)) == forbidden(str(address))
    allowed, _ = networks([str(address)])
    assert forbidden(str(outer), allowed) is None


@given(st.ip_addresses(v=6))
def test_of_ipv6_only_what_was_given_to_anyone_is_reached(address):
    if forbidden(str(address)) is None and not any(address in network for network in HOLD_V4):
        assert address in ipaddress.ip_network("2000::/3")
        assert address.teredo is None
        assert address.sixtofour is None


@given(st.text())
def test_no_text_gets_through_that_is_no_address(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert forbidden(text) == "not an address"


def test_what_is_allowed_is_reached_and_its_neighbours_are_not():
    allowed, faults = networks(["10.1.0.0/16", " 127.0.0.1 ", "fd00::/8"])
    assert faults == []
    assert [forbidden(address, allowed) for address in ("10.1.255.255", "127.0.0.1", "fd12::1")] == [None] * 3
    assert all(forbidden(address, allowed) for address in ("10.2.0.0", "127.0.0.2", "fc00::1"))


def test_what_is_no_network_is_reported():
    allowed, faults = networks(["10.1.0.5/16", "localhost", "10.0.0.0/33", "8.8.8.8"])
    assert [str(network) for network in allowed] == ["8.8.8.8/32"]
    assert ["localhost" in str(fault) for fault in faults] == [False, True, False]


def test_the_gate_makes_no_socket_for_what_must_not_be_reached():
    [info] = socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    with pytest.raises(ForbiddenAddress):
        AddressFilter()(info)
    allowed, _ = networks(["127.0.0.0/8"])
    AddressFilter(allowed)(info).close()
