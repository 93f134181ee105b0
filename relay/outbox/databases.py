"""Which database a URL names."""

from __future__ import annotations

import re

from relay.outbox.errors import ConfigError
from relay.outbox.sqlite.opening import sqlite_path
from relay.outbox.store import Database

_EXPECTED = (
    "outbox.url: expected sqlite:///path/to/file.db (four slashes for an absolute path) "
    "or postgresql://user:password@host:5432/name"
)
_ENCODE = (
    "outbox.url: it is unclear where the host begins. In user, password and options write / as %2F, ? as %3F, "
    "# as %23, @ as %40, and what is not printable ASCII percent-encoded too"
)
# Compiled by whoever has a server: others need not wait.
_SERVER = r"postgres(?:ql)?://(?:[^][/?#@]*@)?(?P<hosts>[^/?#@]*)/(?P<name>[^/?#@]*)(?:\?(?P<options>[^?#@]*))?"
_HOST = r"(?:[A-Za-z0-9._%-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[^:]*))?"
_OPTION = r"([A-Za-z_][A-Za-z0-9_.]*)=(.*)"
# What asyncpg takes for itself; any other is a setting of the session, which the server knows.
_OPTIONS = frozenset(
    {"database", "dbname", "gsslib", "host", "krbsrvname", "passfile", "password", "port", "service", "servicefile"}
    | {"ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode"}
    | {"sslnegotiation", "sslpassword", "sslrootcert", "target_session_attrs", "user"}
)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def database_at(url: str, schema: str = "outspoken") -> Database:
    """The database behind a URL; on PostgreSQL its outbox is in the schema of that name. Raises ConfigError for a URL
    that names none, or needs an extra that is missing, and for what no outbox's schema is called."""
    if url.startswith("sqlite:"):
        from relay.outbox.sqlite.database import SqliteDatabase

        return SqliteDatabase(sqlite_path(url))
    if re.match(r"postgres(ql)?://", url):
        _check_server(url)
        return _postgres(url, schema)
    raise ConfigError(_EXPECTED)


def _postgres(url: str, schema: str) -> Database:
    try:
        from relay.outbox.postgres.database import PostgresDatabase
    except ImportError as error:
        raise ConfigError("outbox.url: PostgreSQL needs an extra: pip install 'outspoken[postgres]'") from error
    return PostgresDatabase(url, schema_name=schema)


def _check_server(url: str) -> None:
    """Raises ConfigError for a URL that its readers would take apart differently, half a password for a host's name.
    No message repeats anything but the name of an option."""
    if "@" not in url and not re.match(r"[^/]+://[^/?#]*/[^/?#]", url):
        raise ConfigError(_EXPECTED)
    parts = re.fullmatch(_SERVER, url)
    if parts is None or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise ConfigError(_ENCODE)
    if not parts["name"]:
        raise ConfigError(_EXPECTED)
    for host in parts["hosts"].split(",") if parts["hosts"] else ():
        _check_host(host)
    for option in parts["options"].split("&") if parts["options"] else ():
        _check_option(option)


def _check_host(text: str) -> None:
    host = re.fullmatch(_HOST, text)
    if host is None:
        raise ConfigError(
            "outbox.url: the host is neither a name nor an address (IPv6: in brackets), perhaps with a port"
        )
    if host["port"] is not None and not _is_port(host["port"]):
        raise ConfigError("outbox.url: the port is not a number from 1 to 65535")


def _check_option(text: str) -> None:
    option = re.fullmatch(_OPTION, text)
    if option is None:
        raise ConfigError("outbox.url: expected options as ?name=value&name=value, such as ?sslmode=require")
    name, value = option.groups()
    if name not in _OPTIONS and (close := _close_to(name)):
        raise ConfigError(f"outbox.url: there is no option {name}; {close} is meant?")
    if name == "sslmode" and value not in _SSL_MODES:
        raise ConfigError(f"outbox.url: sslmode: expected {', '.join(_SSL_MODES)}")
    if name == "port" and not all(map(_is_port, value.split(","))):
        raise ConfigError("outbox.url: port: expected a number from 1 to 65535")


def _close_to(name: str) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, _OPTIONS, 1, 0.8)), None)


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,4}", text) is not None and int(text) <= 65535
