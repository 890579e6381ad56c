"""The address rule, on the decision function alone: no packet leaves the machine."""

import socket
from ipaddress import ip_address

import pytest

from app.errors import FetchError
from app.fetching import AddressGuard, urls


def _listed(text: str) -> list[str]:
    return text.split()


REFUSED_IPV4 = _listed("""
0.0.0.0 0.0.0.1 0.1.2.3 0.255.255.255 10.0.0.0 10.0.0.1 10.1.2.3 10.255.255.255 100.64.0.0 100.64.0.1 100.100.100.200
100.127.255.255 127.0.0.0 127.0.0.1 127.0.0.2 127.0.1.1 127.1.2.3 127.255.255.255 168.63.129.16 169.254.0.0
169.254.0.1 169.254.169.123 169.254.169.253 169.254.169.254 169.254.170.2 169.254.255.255 172.16.0.0 172.16.0.1
172.17.0.1 172.20.10.1 172.31.255.255 192.0.0.0 192.0.0.1 192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.192
192.0.2.0 192.0.2.1 192.0.2.2 192.0.2.255 192.31.196.1 192.52.193.1 192.88.99.0 192.88.99.1 192.88.99.2 192.168.0.0
192.168.0.1 192.168.1.1 192.168.255.255 192.175.48.1 198.18.0.0 198.18.0.1 198.19.255.255 198.51.100.0 198.51.100.7
203.0.113.0 203.0.113.255 224.0.0.0 224.0.0.1 224.0.0.251 232.1.2.3 233.252.0.1 239.255.255.250 239.255.255.255
240.0.0.0 240.0.0.1 250.1.2.3 255.255.255.254 255.255.255.255
""")

REFUSED_IPV6 = _listed("""
:: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::169.254.169.254 0:0:0:0:0:0:0:1 0000:0000:0000:0000:0000:0000:7f00:0001
::ffff:0.0.0.0 ::ffff:10.0.0.1 ::ffff:100.64.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::FFFF:7F00:0001 0:0:0:0:0:ffff:7f00:1
::ffff:169.254.169.254 ::ffff:a9fe:a9fe ::ffff:172.16.0.1 ::ffff:192.168.1.1 ::ffff:192.0.2.1 ::ffff:198.18.0.1
::ffff:224.0.0.1 ::ffff:255.255.255.255 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::7f00:1
64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b::192.168.0.1 64:ff9b::0.0.0.0 64:ff9b::224.0.0.1
64:ff9b::255.255.255.255 64:ff9b:0:0:0:1:0808:0808 64:ff9b:1::1 64:ff9b:1::8.8.8.8 64:ff9b:1:ffff::127.0.0.1
64:ff9b:1:7f00:0:100:: 64:ff9b:2::1 100::1 100:0:0:1::1 200::1 400::1 800::1 1000::1 1fff::1 2001::1
2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:7f00:1:: 2001:0:808:808:0:0:80ff:fffe 2001:1::1 2001:1::2 2001:1::3
2001:2::1 2001:2:0:ffff::1 2001:3::1 2001:4:112::1 2001:5::1 2001:10::1 2001:1f::1 2001:20::1 2001:2f:ffff::1
2001:30::1 2001:3f::1 2001:1ff::1 2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8::5efe:8.8.8.8
2002:: 2002:7f00:1:: 2002:7f00:1::1 2002:a00:1:: 2002:a9fe:a9fe::1 2002:c0a8:101::1 2002:ac10:1::1 2002:6440:1::1
2002:e000:1::1 2002:808:808::1 2002:ffff:ffff::1 2620:4f:8000::1 3ffe::1 3ffe:831f:ce49::1 3fff::1 3fff:fff::1 4000::1
5f00::1 6000::1 8000::1 c000::1 e000::1 f000::1 fc00::1 fc00:: fd00::1 fd00:ec2::254 fd12:3456:789a:1::1 fdff:ffff::1
fe00::1 fe80::1 fe80::a9fe:a9fe fe80::1%eth0 fe80::1%lo fe80::5efe:10.0.0.1 febf::1 fec0::1 fec0:0:0:ffff::1 feff::1
ff00::1 ff01::1 ff02::1 ff02::fb ff05::2 ff0e::1 ffff::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
2606:4700::5efe:127.0.0.1 2606:4700::5efe:192.168.1.1 2606:4700::200:5efe:10.0.0.1 2606:4700::200:5efe:a9fe:a9fe
""")

NO_ADDRESS = ["", " ", "localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "1.2.3", "8.8.8.8/32"]
NO_ADDRESS += [
    "256.1.1.1",
    "[::1]",
    "::1::",
    "8.8.8.8 ",
    "8.8.8.8\n",
    "٨.8.8.8",
    "1.2.3.4:80",
    "metadata.google.internal",
]

ALLOWED = _listed("""
1.0.0.1 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.1 192.0.3.1
192.88.98.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.1 203.0.112.255 203.0.114.0
223.255.255.255 2000::1 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1 2003::1 2400:cb00::1
2606:4700:4700::1111 2620:4f:8001::1 2a00:1450:4001::200e 3ffd::1 3fff:1000::1 ::ffff:8.8.8.8 ::ffff:808:808
64:ff9b::8.8.8.8 64:ff9b::808:808 2606:4700::5efe:8.8.8.8 2606:4700::200:5efe:8.8.8.8
""")


@pytest.mark.parametrize("address", [*REFUSED_IPV4, *REFUSED_IPV6, *NO_ADDRESS])
def test_special_address_is_refused(address: str) -> None:
    assert not AddressGuard().is_allowed(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_plainly_global_address_is_allowed(address: str) -> None:
    assert AddressGuard().is_allowed(address)


def test_address_objects_are_judged_like_their_text() -> None:
    assert not AddressGuard().is_allowed(ip_address("127.0.0.1"))
    assert AddressGuard().is_allowed(ip_address("8.8.8.8"))


def test_every_ipv4_refused_is_refused_in_each_form_that_carries_it() -> None:
    guard = AddressGuard()
    for address in REFUSED_IPV4:
        packed = int(ip_address(address))
        carried = (
            (0xFFFF << 32) | packed,  # mapped
            packed,  # compatible
            (0x64FF9B << 96) | packed,  # NAT64
            (0x2002 << 112) | (packed << 80) | 1,  # 6to4
            (0x20010000 << 96) | (packed ^ 0xFFFFFFFF),  # Teredo
            (0x26064700 << 96) | (0x5EFE << 32) | packed,  # ISATAP
        )
        for number in carried:
            assert not guard.is_allowed(ip_address(number.to_bytes(16, "big"))), ip_address(number.to_bytes(16, "big"))


@pytest.mark.parametrize(
    ("network", "allowed", "refused"),
    [
        ("127.0.0.2/32", ["127.0.0.2", "::ffff:127.0.0.2", "::ffff:7f00:2"], ["127.0.0.1", "127.0.0.3", "::127.0.0.2"]),
        ("10.20.0.0/16", ["10.20.0.0", "10.20.255.255", "::ffff:10.20.1.1"], ["10.21.0.0", "64:ff9b::10.20.1.1"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0/8", "::a01:203"]),
        ("fd00::/8", ["fd00::1", "fdff::1"], ["fc00::1", "fe80::1", "127.0.0.1"]),
        ("::1/128", ["::1"], ["::2", "127.0.0.1"]),
        ("0.0.0.0/0", ["127.0.0.1", "10.0.0.1", "::ffff:169.254.169.254"], ["::1", "fd00::1", "2002:7f00:1::"]),
    ],
)
def test_allowed_network_lets_only_itself_through(network: str, allowed: list[str], refused: list[str]) -> None:
    guard = AddressGuard([network])
    assert [address for address in allowed if not guard.is_allowed(address)] == []
    assert [address for address in refused if guard.is_allowed(address)] == []


def test_network_that_is_none_is_said_so() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        AddressGuard(["10.0.0.1/8"])


ODD_LITERALS = _listed("""
127.1 127.0.1 0x7f.1 0x7f000001 2130706433 017700000001 0177.0.0.1 127.0.0.1. 0X7F.0.0.1 [::ffff:127.0.0.1] [::1]
[0:0:0:0:0:0:0:1] \uff11\uff12\uff17.0.0.1 127\u30020\u30020\u30021 0 0x0 [::] 169.254.43518 0xa9fea9fe
[::ffff:a9fe:a9fe] [64:ff9b::7f00:1] user@127.0.0.1 a:b@[::1]
""")
NO_HOST = _listed("""
127.0.0.1.5 256.1.1.1 08.1.1.1 1.2.3.4.5.6 0x [::1 [::1]x [fe80::1%25eth0] [1.2.3.4] ::1 %31%32%37.0.0.1
good.example%2f@127.0.0.1%00 a\\@127.0.0.1 a..b .a - a,b a'b xn--\udc80 \u2488
""")


@pytest.mark.parametrize("host", ODD_LITERALS)
def test_odd_literal_in_a_url_ends_at_the_rule(host: str) -> None:
    origin = urls.parse(f"http://{host}/x", 1000).origin
    assert origin.is_literal
    assert not AddressGuard().is_allowed(origin.host)


@pytest.mark.parametrize("host", [*NO_HOST, "exa mple.com", "a" * 64, "a." * 150])
def test_host_that_parsers_could_disagree_on_is_no_url(host: str) -> None:
    with pytest.raises(FetchError) as raised:
        urls.parse(f"http://{host}/x", 1000)
    assert raised.value.code == "invalid_url"


def test_no_address_of_the_table_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("looked up"))
    for address in REFUSED_IPV4:
        assert urls.parse(f"http://{address}/", 1000).origin == ("http", address, 80, True)
