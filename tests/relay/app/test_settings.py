from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.app.settings import RelaySettings, read, read_all
from relay.guard.rules import Rules
from relay.guard.url import Target
from relay.outbox.errors import ConfigError
from relay.outbox.sqlite.database import SqliteDatabase
from relay.policy.outcome import OnTooLarge, RetryPolicy
from relay.policy.schedule import ExponentialSchedule, FixedSchedule, Schedule
from relay.service.settings import usable_cores
from tests.cases import cases


def from_environment(**variables: str) -> RelaySettings:
    return read(None, {f"OUTSPOKEN_{name}": text for name, text in variables.items()})


def test_the_defaults_are_the_ones_that_were_promised() -> None:
    settings = read(None, {})
    relay = settings.relay
    assert settings.outbox.database == SqliteDatabase(Path("var/outspoken.db"))
    assert settings.outbox.guard.rules() == Rules()
    assert (relay.host, relay.concurrency, relay.per_destination, relay.lease_seconds) == ("127.0.0.1", 256, 16, 60)
    assert relay.retry.policy() == RetryPolicy()
    assert (relay.retry.schedule, relay.retry.retries, relay.retry.delay) == ("fixed", 10, 30)
    assert (relay.retry.exponential.first, relay.retry.exponential.longest) == (5, 3600)
    assert relay.retry.exponential.total == relay.retry.patience == 3 * 86400
    assert relay.retry.on_too_large is OnTooLarge.RETRY
    assert settings.outbox.public_url == ""
    assert (relay.http.connect_timeout, relay.http.exchange_timeout) == (5, 30)


def test_workers_are_as_many_as_there_are_cores_that_may_be_used() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert from_environment(RELAY__WORKERS="auto").relay.workers == 1
    finally:
        os.sched_setaffinity(0, before)
    assert from_environment(RELAY__WORKERS="auto").relay.workers == max(1, int(usable_cores()))
    assert from_environment(RELAY__WORKERS="3").relay.workers == 3
    for wrong in ("0", "65", "many"):
        with pytest.raises(ConfigError, match=r"relay\.workers"):
            from_environment(RELAY__WORKERS=wrong)


def test_a_misspelt_setting_in_the_environment_is_named() -> None:
    with pytest.raises(ConfigError, match=r"environment: relay\.concurency: no such setting"):
        from_environment(RELAY__CONCURENCY="5")


def test_a_misspelt_setting_in_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outspoken.toml"
    path.write_text("[relay.retry]\nretrys = 3\n")
    with pytest.raises(ConfigError, match=r"relay\.retry\.retrys: no such setting"):
        read(path, {})


def test_the_engines_settings_are_none_of_the_relays_business(tmp_path: Path) -> None:
    path = tmp_path / "outspoken.toml"
    path.write_text("[engine]\nanything = 'goes'\n")
    assert read(path, {"OUTSPOKEN_ENGINE__WHATEVER": "1"}) == RelaySettings()


@cases(("text", "ports"), [("8080, 8443", {8080, 8443}), ("[80, 443]", {80, 443}), ("9000", {9000}), ("[]", set())])
def test_ports_may_be_written_as_a_plain_list(text: str, ports: set[int]) -> None:
    assert from_environment(OUTBOX__GUARD__PORTS=text).outbox.guard.rules().ports == ports


@cases("text", ["10.1.0.0/16, ::1/128", '["10.1.0.0/16", "::1/128"]'])
def test_networks_are_opened_by_name(text: str) -> None:
    networks = from_environment(OUTBOX__GUARD__ALLOW_NETWORKS=text).outbox.guard.rules().networks
    assert networks == (ip_network("10.1.0.0/16"), ip_network("::1/128"))


@cases(
    ("variable", "text", "key"),
    [
        ("RELAY__CONCURRENCY", "0", "relay.concurrency"),
        ("RELAY__CONCURRENCY", "many", "relay.concurrency"),
        ("RELAY__PORT", "65536", "relay.port"),
        ("RELAY__LEASE_SECONDS", "0", "relay.lease_seconds"),
        ("RELAY__RETRY__RETRIES", "-1", "relay.retry.retries"),
        ("RELAY__RETRY__DELAY", "nan", "relay.retry.delay"),
        ("RELAY__RETRY__SCHEDULE", "sometimes", "relay.retry.schedule"),
        ("RELAY__RETRY__ON_TOO_LARGE", "shrug", "relay.retry.on_too_large"),
        ("RELAY__RETRY__PATIENCE", "0", "relay.retry.patience"),
        ("RELAY__RETRY__EXPONENTIAL__FIRST", "-1", "relay.retry.exponential.first"),
        ("RELAY__RETRY__EXPONENTIAL__LONGEST", "inf", "relay.retry.exponential.longest"),
        ("RELAY__RETRY__EXPONENTIAL__TOTAL", "nan", "relay.retry.exponential.total"),
        ("RELAY__PER_DESTINATION", "0", "relay.per_destination"),
        ("RELAY__HTTP__EXCHANGE_TIMEOUT", "inf", "relay.http.exchange_timeout"),
        ("RELAY__HTTP__PROXY", "proxy.example:3128", "relay.http.proxy"),
        ("RELAY__HTTP__PROXY", "socks5://u:secret@proxy.example:1080", "relay.http.proxy"),
        ("RELAY__HTTP__PROXY", "http://u:secret@pr oxy.example", "relay.http.proxy"),
        ("RELAY__TRACES__ENDPOINT", "nonsense", "relay.traces.endpoint"),
        ("RELAY__TRACES__ENDPOINT", "ftp://u:secret@collector/?token=secret", "relay.traces.endpoint"),
        ("RELAY__TRACES__ENDPOINT", "http://u:secret@collector:port/v1/traces", "relay.traces.endpoint"),
        ("RELAY__TRACES__ENDPOINT", "http://collector:0/v1/traces?token=secret", "relay.traces.endpoint"),
        ("RELAY__LOG__LEVEL", "chatty", "relay.log.level"),
        ("OUTBOX__GUARD__PORTS", "0", "outbox.guard.ports"),
        ("OUTBOX__GUARD__PORTS", "http", "outbox.guard.ports"),
        ("OUTBOX__GUARD__ALLOW_NETWORKS", "10.0.0.1/8", "outbox.guard.allow_networks"),
        ("OUTBOX__GUARD__ALLOW_NETWORKS", "everything", "outbox.guard.allow_networks"),
        ("OUTBOX__URL", "mysql://root:secret@db/outspoken", "outbox.url"),
        ("OUTBOX__URL", "sqlite://outspoken.db", "outbox.url"),
        ("OUTBOX__URL", "sqlite:///", "outbox.url"),
        ("OUTBOX__PUBLIC_URL", "speech.example", "outbox.public_url"),
        ("OUTBOX__PUBLIC_URL", "ftp://speech.example", "outbox.public_url"),
        ("OUTBOX__PUBLIC_URL", "https://", "outbox.public_url"),
        ("OUTBOX__PUBLIC_URL", "https://u:secret@speech.example", "outbox.public_url"),
        ("OUTBOX__PUBLIC_URL", "https://speech.example/?x=secret", "outbox.public_url"),
    ],
)
def test_a_bad_value_is_named_by_its_key(variable: str, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_environment(**{variable: text})
    assert f"environment: {key}" in str(refused.value)
    assert "secret" not in str(refused.value)


@cases(
    ("url", "proxy"),
    [
        ("", None),
        ("http://10.0.0.1:3128", Target("http", "10.0.0.1", 3128, "/")),
        ("http://proxy", Target("http", "proxy", 80, "/")),
        ("https://proxy", Target("https", "proxy", 443, "/")),
        ("http://user:p%40ss@[::1]:3128/", Target("http", "::1", 3128, "/", "Basic dXNlcjpwQHNz")),
    ],
)
def test_a_forward_proxy_is_named_by_its_url(url: str, proxy: Target | None) -> None:
    assert from_environment(RELAY__HTTP__PROXY=url).relay.http.forward_proxy() == proxy


def test_the_credential_of_a_forward_proxy_is_not_told() -> None:
    settings, in_force = read_all(None, {"OUTSPOKEN_RELAY__HTTP__PROXY": "http://user:secret@proxy:3128"})
    assert "secret" not in repr(settings)
    assert settings.relay.http.forward_proxy() is not None
    assert "c2VjcmV0" not in repr(settings.relay.http.forward_proxy())
    assert {one.setting: one.value for one in in_force}["relay.http.proxy"] == "http://***@proxy:3128"


def test_a_rulebook_is_what_the_settings_say() -> None:
    retry = from_environment(
        RELAY__RETRY__SCHEDULE="exponential",
        RELAY__RETRY__RETRIES="3",
        RELAY__RETRY__DELAY="7",
        RELAY__RETRY__EXPONENTIAL__FIRST="1",
        RELAY__RETRY__EXPONENTIAL__LONGEST="60",
        RELAY__RETRY__EXPONENTIAL__TOTAL="600",
        RELAY__RETRY__ON_TOO_LARGE="dead",
    ).relay.retry
    schedules: dict[str, Schedule] = {
        "fixed": FixedSchedule(3, 7.0),
        "exponential": ExponentialSchedule(1.0, 60.0, 600.0),
    }
    assert retry.policy() == RetryPolicy(schedules, "exponential", OnTooLarge.DEAD)


def test_links_need_a_place_to_lead_to() -> None:
    with pytest.raises(ConfigError) as refused:
        from_environment(RELAY__RETRY__ON_TOO_LARGE="pointer")
    assert "relay.retry.on_too_large" in str(refused.value)
    assert "outbox.public_url" in str(refused.value)
    placed = from_environment(RELAY__RETRY__ON_TOO_LARGE="pointer", OUTBOX__PUBLIC_URL="https://speech.example")
    assert placed.relay.retry.policy().on_too_large is OnTooLarge.POINTER


def test_a_place_alone_changes_no_policy() -> None:
    placed = from_environment(OUTBOX__PUBLIC_URL="https://speech.example")
    assert placed.relay.retry.policy().on_too_large is OnTooLarge.RETRY


@cases(
    ("text", "shown"),
    [
        ("postgresql://u:s3cret@db.example/x?password=s3cret", "postgresql://***@db.example/x?password=***"),
        ("postgresql://db.example/x", "postgresql://db.example/x"),
        ("sqlite:///var/x.db", "sqlite:///var/x.db"),
    ],
)
def test_what_is_in_force_holds_no_password(text: str, shown: str) -> None:
    _, rows = read_all(None, {"OUTSPOKEN_OUTBOX__URL": text})
    assert next(row.value for row in rows if row.setting == "outbox.url") == shown


@cases(
    ("url", "path"),
    [("sqlite:///var/x.db", "var/x.db"), ("sqlite:////srv/x.db", "/srv/x.db"), ("sqlite:///x.db", "x.db")],
)
def test_the_database_is_a_file(url: str, path: str) -> None:
    assert from_environment(OUTBOX__URL=url).outbox.database == SqliteDatabase(Path(path))


def test_the_database_is_a_server_whose_secrets_are_not_told() -> None:
    database = from_environment(
        OUTBOX__URL="postgresql://u:secret@db.example:5432/outspoken?ssl=require"
    ).outbox.database
    assert database.name == "postgresql://db.example:5432/outspoken"
    assert "secret" not in repr(database)


def test_a_database_of_neither_kind_is_refused_with_both_spelt_out() -> None:
    with pytest.raises(ConfigError, match=r"outbox\.url: expected sqlite:///.* or postgresql://"):
        from_environment(OUTBOX__URL="mysql://u:secret@db.example/x")
