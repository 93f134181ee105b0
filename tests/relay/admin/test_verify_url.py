from __future__ import annotations

import json

from relay.admin.verify_url import Judgement, verify, verify_lines
from relay.guard.resolver import Found, Names, Resolver
from relay.guard.rules import Rules
from tests.cases import cases


def resolving_to(*addresses: str) -> Resolver:
    async def lookup(host: str) -> Found:
        return Found(addresses)

    return Resolver(Rules(), Names(lookup))


OFFLINE = resolving_to()


async def judge_lines(*lines: str | bytes) -> list[Judgement]:
    return [judgement async for judgement in verify_lines(lines, OFFLINE, offline=True)]


@cases(
    ("url", "live", "rule"),
    [
        ("https://example.com/hook", False, "ok"),
        ("http://8.8.8.8/", False, "ok"),
        ("http://127.0.0.1/", False, "forbidden_address"),
        ("http://localhost/", False, "not_a_public_name"),
        ("http://example.com:25/", False, "forbidden_port"),
        ("wss://example.com/", False, "forbidden_scheme"),
        ("wss://example.com/", True, "ok"),
    ],
)
async def test_offline_a_url_is_judged_by_what_it_says(url: str, live: bool, rule: str) -> None:
    judgement = await verify(url, OFFLINE, live=live, offline=True)
    assert (judgement.url, judgement.rule) == (url, rule)
    assert judgement.verdict == ("allow" if rule == "ok" else "deny")
    assert judgement.allowed is (rule == "ok")


@cases(
    ("addresses", "rule"),
    [(["8.8.8.8"], "ok"), (["8.8.8.8", "10.0.0.1"], "forbidden_address"), ([], "unresolvable")],
)
async def test_online_a_url_is_judged_by_what_its_host_resolves_to(addresses: list[str], rule: str) -> None:
    judgement = await verify("http://receiver.internal/", resolving_to(*addresses))
    assert judgement.rule == rule


async def test_every_part_of_a_url_and_every_address_of_its_host_is_told_with_its_verdict() -> None:
    public = resolving_to("8.8.8.8", "10.0.0.1", "2606:4700::1111")
    judgement = await verify("https://u:p@receiver.example:25/x?y", public)
    assert [(check.part, check.rule) for check in judgement.checks] == [
        ("text", "ok"),
        ("scheme", "ok"),
        ("host", "ok"),
        ("userinfo", "ok"),
        ("port", "forbidden_port"),
    ]
    judgement = await verify("https://receiver.example/", public)
    assert [(check.found, check.rule) for check in judgement.checks if check.part == "address"] == [
        ("8.8.8.8", "ok"),
        ("10.0.0.1", "forbidden_address"),
        ("2606:4700::1111", "ok"),
    ]
    assert (judgement.verdict, judgement.rule) == ("deny", "forbidden_address")


@cases(
    ("url", "shown"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("https://SECRET:SECRET@example.com/hook?SECRET#SECRET", "https://***@example.com/hook?***"),
        ("https://example.com/?to=SECRET@SECRET", "https://example.com/?***"),
        ("http://SECRET:SECRET/SECRET@example.com/", "***"),
        ("http://SECRET:SECRET@SECRET@example.com/", "***"),
        ("SECRET:SECRET@example.com", "***"),
        ("http://example.com/?SECRET\nSECRET@SECRET?", "***"),
        ("http://127.1/#SECRET", "***"),
        ("http://127.1/hook", "http://127.1/hook"),
    ],
)
async def test_neither_credentials_nor_queries_are_shown_to_a_terminal(url: str, shown: str) -> None:
    text = (await verify(url, OFFLINE, offline=True)).as_text()
    assert "SECRET" not in text
    assert json.dumps(shown) in text


async def test_a_judgement_is_one_json_line_with_four_keys() -> None:
    line = (await verify("http://u:p@127.0.0.1/", OFFLINE, offline=True)).as_json()
    assert "\n" not in line
    read_back = json.loads(line)
    assert list(read_back) == ["url", "verdict", "rule", "message"]
    assert read_back["url"] == "http://u:p@127.0.0.1/"
    assert (read_back["verdict"], read_back["rule"]) == ("deny", "forbidden_address")


async def test_the_url_reaches_the_terminal_quoted() -> None:
    text = (await verify("http://\x1b[2J\n", OFFLINE, offline=True)).as_text()
    assert text.isprintable()
    assert text.startswith("deny   forbidden_character")


async def test_each_line_of_the_input_gets_its_judgement_in_order() -> None:
    judgements = await judge_lines('"http://example.com/"\n', '"http://127.0.0.1/"\r\n', b'  "https://example.org/"')
    assert [(judged.url, judged.rule) for judged in judgements] == [
        ("http://example.com/", "ok"),
        ("http://127.0.0.1/", "forbidden_address"),
        ("https://example.org/", "ok"),
    ]


@cases(
    "line",
    [
        "",
        "http://example.com/",
        '"unfinished',
        '"a" "b"',
        "{}",
        "null",
        "1" * 10_000,
        "[" * 1_000_000,
        '"a\x00b"',
        b"\xff",
    ],
)
async def test_a_line_that_is_not_a_json_string_is_denied_and_echoed(line: str | bytes) -> None:
    (judgement,) = await judge_lines(line)
    assert (judgement.verdict, judgement.rule) == ("deny", "not_a_json_string")
    assert judgement.url == (line if isinstance(line, str) else line.decode(errors="surrogateescape"))
    assert json.loads(judgement.as_json())["url"] == judgement.url


@cases(
    ("line", "rule"),
    [
        (rb'"http://example.com/\ud800"', "forbidden_character"),
        (b'"http://example.com/\xff"', "forbidden_character"),
        (r'"http://example.com/\u0000"', "forbidden_character"),
        (r'"http://example.com/\n"', "forbidden_character"),
        ('"' + "a" * 1_000_000 + '"', "url_too_long"),
        ('""', "forbidden_scheme"),
    ],
)
async def test_a_hostile_string_is_judged_like_any_other(line: str | bytes, rule: str) -> None:
    (judgement,) = await judge_lines(line)
    assert (judgement.verdict, judgement.rule) == ("deny", rule)
    assert judgement.as_json().isascii()
