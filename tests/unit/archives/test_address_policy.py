from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from chrono_ray.archives.addresses import AddressDenied, AddressPolicy, is_public
from chrono_ray.model.errors import RequestRefused

NOBODY = AddressPolicy(frozenset())


@pytest.mark.parametrize("address", ["1.1.1.1", "207.241.224.2", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:1.1.1.1",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
        "3fff::1", "5f00::1", "fc00::1", "fd00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
        "localhost", "", "1.1.1", "0x7f.1", "2130706433",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_no_form_of_a_private_address_passes(address):
    number = int(address)
    forms = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]
    assert not any(is_public(str(form)) for form in forms)
    if is_public(str(address)):
        assert address.is_global


@given(st.ip_addresses(v=6))
def test_what_passes_is_global_unicast(address):
    if is_public(str(address)):
        assert address.is_global
        assert not any((address.is_multicast, address.is_site_local, address.ipv4_mapped))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://archive.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("http:///nothing", "scheme"),
        ("http://127.0.0.1:8265/api/jobs/", "address"),
        ("http://127.0.0.1:6379/", "address"),
        ("http://[::1]/", "address"),
        ("http://localhost/", "address"),
        ("http://LOCALHOST./", "address"),
        ("http://a.localhost:8080/", "address"),
        ("http://2130706433/", "address"),
        ("http://127.1/", "address"),
        ("http://0177.0.0.1/", "address"),
        ("http://user@archive.example/", "address"),
        ("http://archive.example:22/", "port"),
        ("http://1.1.1.1:8080/", "port"),
    ],
)
def test_a_url_is_refused_by_what_it_says(url, reason):
    with pytest.raises(RequestRefused) as caught:
        NOBODY.check_url(URL(url, encoded=True))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "url", ["http://archive.example/", "https://archive.example/", "https://1.1.1.1/x", "http://archive.example:443/"]
)  # fmt: skip
def test_public_urls_pass(url):
    NOBODY.check_url(URL(url, encoded=True))


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        (("127.0.0.1", 8080), "http://127.0.0.1:8080/coll/cdx"),
        (("localhost", 8080), "http://LocalHost:8080/"),
        (("::1", 8080), "http://[0:0:0:0:0:0:0:1]:8080/"),
        (("[::1]", 8080), "http://[::1]:8080/"),
        (("archive.lan", 80), "http://archive.lan./"),
    ],
)
def test_a_listed_endpoint_passes_however_it_is_written(listed, url):
    AddressPolicy(frozenset({listed})).check_url(URL(url, encoded=True))


def _info(host: str, port: int):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "::1", "64:ff9b::7f00:1"])
def test_the_last_word_is_on_the_address_really_connected_to(host):
    with pytest.raises(AddressDenied):
        NOBODY.open_socket(_info(host, 80))


def test_a_listed_name_opens_its_addresses_on_its_port_only():
    policy = AddressPolicy(frozenset({("archive.lan", 8080)}))
    with pytest.raises(AddressDenied):
        policy.open_socket(_info("10.1.2.3", 8080))
    policy.resolved("archive.lan", 8080, frozenset({"10.1.2.3"}))
    policy.open_socket(_info("10.1.2.3", 8080)).close()
    for host, port in (("10.1.2.3", 80), ("10.1.2.4", 8080)):
        with pytest.raises(AddressDenied):
            policy.open_socket(_info(host, port))
    policy.resolved("archive.lan", 8080, frozenset({"10.1.2.4"}))
    with pytest.raises(AddressDenied):
        policy.open_socket(_info("10.1.2.3", 8080))


def test_one_private_address_spoils_a_name():
    NOBODY.resolved("archive.example", 80, frozenset({"1.1.1.1", "2606:4700::1111"}))
    with pytest.raises(AddressDenied):
        NOBODY.resolved("archive.example", 80, frozenset({"1.1.1.1", "10.0.0.1"}))
