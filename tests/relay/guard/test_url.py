from __future__ import annotations

import base64
import socket
from ipaddress import ip_address, ip_network

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.guard.address import judge_address
from relay.guard.rules import Refusal, Rule, Rules
from relay.guard.url import LIVE, Target, public_name, read, rulings
from tests.cases import cases
from tests.relay.guard.destinations import ADDRESSES, PUBLIC_NAMES, URLS, rule_of

RULES = Rules()


def target(url: str, rules: Rules = RULES, schemes: frozenset[str] = LIVE) -> Target:
    judged = read(url, rules, schemes)
    assert isinstance(judged, Target), judged
    return judged


def test_the_table_is_large_without_repetition_and_shows_every_rule() -> None:
    urls = [url for url, _ in URLS]
    assert len(urls) == len(set(urls)) >= 200
    assert {rule for _, rule in URLS + ADDRESSES + PUBLIC_NAMES} == {"ok", *Rule}


@cases(("url", "rule"), URLS)
def test_a_url_is_decided_by_the_rule_in_the_table(url: str, rule: str) -> None:
    assert rule_of(read(url, RULES)) == rule


@cases(("url", "rule"), URLS)
def test_of_the_rulings_on_a_url_the_first_refusal_decides(url: str, rule: str) -> None:
    refusals = [ruling.refusal for ruling in rulings(url, RULES) if ruling.refusal]
    judged = read(url, RULES)
    assert refusals[:1] == ([judged] if isinstance(judged, Refusal) else [])


def test_a_url_with_several_faults_is_told_all_of_them() -> None:
    told = {ruling.part: rule_of(ruling.refusal) for ruling in rulings("ftp://a:%zz@10.0.0.1:25/", RULES)}
    assert told == {
        "text": "ok",
        "scheme": "forbidden_scheme",
        "host": "ok",
        "userinfo": "malformed_userinfo",
        "address": "forbidden_address",
        "port": "forbidden_port",
    }


@cases(("host", "rule"), PUBLIC_NAMES)
def test_a_name_is_public_as_the_table_says(host: str, rule: str) -> None:
    assert rule_of(public_name(host)) == rule


def test_a_live_callback_may_go_to_a_websocket() -> None:
    assert target("wss://example.com/live") == Target("wss", "example.com", 443, "/live")
    assert target("WS://example.com/live") == Target("ws", "example.com", 80, "/live")
    assert rule_of(read("ftp://example.com/", RULES, LIVE)) == Rule.FORBIDDEN_SCHEME


@cases(
    ("url", "path"),
    [
        ("http://h.example", "/"),
        ("http://h.example?a=1", "/?a=1"),
        ("http://h.example?", "/?"),
        ("http://h.example#x", "/"),
        ("http://h.example/#x?y", "/"),
        ("http://h.example/a/../b//c;d?e=%2f&f=%C3%A9+g&h={|}", "/a/../b//c;d?e=%2f&f=%C3%A9+g&h={|}"),
        ("http://h.example/a?b?c=//d:@/#e", "/a?b?c=//d:@/"),
    ],
)
def test_path_and_query_are_kept_byte_for_byte_and_the_fragment_is_dropped(url: str, path: str) -> None:
    assert target(url).path == path


@cases(
    ("userinfo", "credentials"),
    [
        ("user:password", "user:password"),
        ("user", "user:"),
        (":password", ":password"),
        ("user:pass:word", "user:pass:word"),
        ("a+b:c+d", "a+b:c+d"),
        ("us%40er:p%3A%2F%25w", "us@er:p:/%w"),
        ("%C3%A9:%E2%82%AC", "\u00e9:\u20ac"),
    ],
)
def test_credentials_become_basic_authentication_and_leave_the_url(userinfo: str, credentials: str) -> None:
    read_back = target(f"https://{userinfo}@h.example:8443/p")
    assert read_back.authorization == "Basic " + base64.b64encode(credentials.encode()).decode()
    assert (read_back.origin, read_back.path) == ("https://h.example:8443", "/p")
    assert read_back.authorization not in repr(read_back)


@cases(
    ("url", "origin", "authority"),
    [
        ("HTTP://Example.COM./x", "http://example.com:80", "example.com"),
        ("https://example.com:443/", "https://example.com:443", "example.com"),
        ("https://example.com:80/", "https://example.com:80", "example.com:80"),
        ("http://[2606:4700:0:0::ABCD]:8080/", "http://[2606:4700::abcd]:8080", "[2606:4700::abcd]:8080"),
        ("http://8.8.8.8./", "http://8.8.8.8:80", "8.8.8.8"),
    ],
)
def test_every_spelling_of_a_destination_has_one_origin(url: str, origin: str, authority: str) -> None:
    assert (target(url).origin, target(url).authority) == (origin, authority)


def test_the_scheme_s_own_port_is_not_open_when_the_operator_closed_it() -> None:
    secure = Rules(ports=frozenset({443, 9000}))
    assert rule_of(read("http://example.com/", secure)) == Rule.FORBIDDEN_PORT
    assert target("http://example.com:9000/", secure).port == 9000
    assert target("https://example.com/", secure).port == 443


def test_an_opened_network_opens_itself_and_nothing_else() -> None:
    demo = Rules(networks=(ip_network("127.0.0.0/8"),))
    assert target("http://127.0.0.1:8080/hook", demo).host == "127.0.0.1"
    assert rule_of(read("http://127.1:8080/", demo)) == Rule.AMBIGUOUS_ADDRESS
    for closed in ("::1", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0"):
        assert rule_of(judge_address(closed, demo)) == Rule.FORBIDDEN_ADDRESS


def test_a_refusal_repeats_no_part_of_the_url() -> None:
    for url in [
        "http://SECRET:SECRET@127.0.0.1/SECRET?SECRET",
        "http://SECRET:%zz@example.com/SECRET",
        "http://SECRET:SECRET@example.com:25/SECRET",
        "http://SECRET:SECRET@example.com:SECRET/",
        "http://SECRET:SECRET/SECRET@example.com/",
        "http://SECRET%/SECRET@example.com/",
        "http://SECRET:SECRET@SECRET@example.com/",
        "http://SECRET:SECRET @example.com/",
        "SECRET://SECRET",
        "http://example.com/?" + "SECRET" * 1000,
    ]:
        refusal = read(url, RULES)
        assert isinstance(refusal, Refusal)
        assert "secret" not in refusal.message.lower()
        assert "secret" not in repr(rulings(url, RULES)).lower()


_FRAGMENTS = st.one_of(
    st.sampled_from(list(":/@#?.%[]\\\t\r\n\x00 _-+017") + ["\uff0e", "\u2460", "\ud800"]),
    st.sampled_from(["http", "https", "ws", "HTTP", "://", "//", "%25", ":80", ":8080", ":25", "user", "localhost"]),
    st.sampled_from(
        ["127", "0x7f", "0177", "2130706433", "127.0.0.1", "8.8.8.8", "::1", "::ffff:127.0.0.1", "fe80::1"]
    ),
)
_URLISH = st.lists(_FRAGMENTS, max_size=10).map("".join)
_WITH_HOST = _URLISH.map(lambda rest: "http://" + rest)
_NUMBER = st.integers(0, 2**33).flatmap(lambda n: st.sampled_from([str(n), hex(n), f"0{n:o}", str(n % 300)]))
_NUMERIC = st.lists(_NUMBER, min_size=1, max_size=5).map(lambda numbers: "http://" + ".".join(numbers) + "/")


@settings(max_examples=100)
@given(st.one_of(st.text(), st.text().map(lambda rest: "http://" + rest), _URLISH, _WITH_HOST, _NUMERIC))
@example("http://[" + "0:" * 2000)
@example("http://" + "a." * 2000)
@example("http://" + "@" * 4000)
@example("http://[fe80::1%" + "\U0010ffff")
def test_reading_never_raises_and_never_yields_a_forbidden_address(url: str) -> None:
    judged = read(url, RULES)
    refusals = [ruling.refusal for ruling in rulings(url, RULES) if ruling.refusal]
    assert refusals[:1] == ([judged] if isinstance(judged, Refusal) else [])
    if isinstance(judged, Target):
        assert judged.path.startswith("/")
        assert judged.port in RULES.ports
        assert judged.origin.isascii()
        for address in _what_the_system_reads(judged.host):
            assert ip_address(address).is_global
            assert not ip_address(address).is_multicast


def _what_the_system_reads(host: str) -> list[str]:
    """The address that the C library makes of a host without asking anybody, if it makes one."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


@cases("host", ["0x7f.1", "2130706433", "0177.0.0.1", "127.1"])
def test_the_oracle_of_the_property_above_knows_the_odd_spellings(host: str) -> None:
    assert _what_the_system_reads(host) == ["127.0.0.1"]


@cases(
    ("url", "converted"),
    [
        ("https://b\u00fccher.example/cb", "xn--bcher-kva.example"),
        ("https://u:p@B\u00dcCHER.example.:8443?x", "xn--bcher-kva.example"),
        ("https://fa\u00df.example#x", "xn--fa-hia.example"),
        (
            "https://\u043f\u0440\u0438\u043c\u0435\u0440.\u0438\u0441\u043f\u044b\u0442\u0430\u043d\u0438\u0435/",
            "xn--e1afmkfd.xn--80akhbyknj4f",
        ),
    ],
)
def test_a_host_in_unicode_is_refused_with_the_form_that_is_meant(url: str, converted: str) -> None:
    refused = read(url, RULES)
    assert isinstance(refused, Refusal)
    assert refused.rule == Rule.FORBIDDEN_CHARACTER
    assert refused.message.endswith(f" So written the host is {converted}.")
    assert isinstance(read(f"https://{converted}/", RULES), Target)


@cases(
    "url",
    [
        "https://p\u00e4/ss@host.example/",
        "https://u:p\u00e4@host.example/",
        "https://host.example/\u00e4",
        "https://\u2603.example/",
        "https://\u00e4 b.example/",
        "https://\u00e4\x00.example/",
        "b\u00fccher.example",
    ],
)
def test_what_is_no_international_host_is_not_converted(url: str) -> None:
    refused = read(url, RULES)
    assert isinstance(refused, Refusal)
    assert "xn--" in refused.message
    assert "So written" not in refused.message
