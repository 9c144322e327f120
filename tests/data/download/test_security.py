from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.download.security import AddressRefused, is_public, open_public_socket, parse_address


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "224.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "4000::1"),
        *("::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1"),
        "2001:0:53aa:64c::1",  # Teredo
    ],
)
def test_what_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "192.88.98.1"]
)
def test_what_is_public(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(plain: IPv4Address):
    wrapped = (f"::ffff:{plain}", f"64:ff9b::{plain}", str(ip_address((0x2002 << 112) + (int(plain) << 80))))
    assert {is_public(address) for address in wrapped} == {is_public(str(plain))}


@given(st.ip_addresses())
def test_no_private_address_is_public(ip):
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        assert not is_public(str(ip))


def test_no_socket_is_opened_for_a_private_address():
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1 is not on the public internet"):
        open_public_socket((*kind, ("10.0.0.1", 80)))
    with open_public_socket((*kind, ("8.8.8.8", 80))) as opened:  # and not connected
        assert opened.family == socket.AF_INET


@given(st.text())
def test_an_address_is_parsed_or_refused(text):
    with suppress(AddressRefused):
        assert parse_address(text).scheme in ("http", "https")
