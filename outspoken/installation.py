"""A folder with all that relay and engine need: settings, database, token, keys. What is there is kept."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import engine.keys
from engine.jobs import store
from relay.admin import keys
from relay.admin.audit import Actor
from relay.admin.auth import Authenticator, token_of
from relay.app.settings import RelaySettings, read
from relay.outbox.store import Database
from relay.service.disk import sync

API_KEY = "quickstart"  # what `engine keys list` calls it
_SETTINGS = """\
# What differs here from the defaults. `relay config show` and `engine config show` tell all settings, and where each
# value comes from; `relay config --explain outbox.guard.ports` tells what one means.

[outbox]
url = {url}

[outbox.guard]
# Callbacks to this machine are let through, to try things. Where strangers send requests, take this line out.
allow_networks = ["127.0.0.0/8"]

[engine]
audio_dir = {audio}
models_dir = {models}
"""


@dataclass(frozen=True, slots=True)
class Made:
    """A file of the folder or its database, what it is for, and whether it was made just now."""

    thing: str
    purpose: str
    new: bool


@dataclass(frozen=True, slots=True)
class Installation:
    """Where it all lies. `folder` is absolute."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "outspoken.toml"

    @property
    def api_key(self) -> Path:
        return self.folder / "api-key"

    @property
    def sample(self) -> Path:
        return self.folder / "hello.opus"

    def settings(self, environ: Mapping[str, str]) -> RelaySettings:
        """The settings of both, as far as the relay reads them. Raises ConfigError."""
        return read(self.config, environ)

    def prepare(self, environ: Mapping[str, str]) -> Iterator[Made]:
        """Make what is missing, and tell of each thing. Raises RelayError, EngineError, OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield self._written(self.config, "the settings of relay and engine", self._default_settings())
        settings = self.settings(environ)
        database = settings.outbox.database
        purpose = "jobs, results, deliveries, and the key that signs them"
        yield Made(database.name, purpose, bool(database.migrate(store.MIGRATION_SETS)))
        _sign_with_a_key(database)
        yield self._token(settings)
        yield self._known_api_key(database)
        sample = files("engine.recognisers.workers") / "sample.opus"
        yield self._written(self.sample, "a sentence to try it with", sample.read_bytes())

    def authenticator(self, environ: Mapping[str, str]) -> Authenticator:
        """What hands out ways into the console."""
        settings = self.settings(environ)
        return Authenticator(token_of(settings.relay.admin.token.value, settings.token_file))

    def _default_settings(self) -> bytes:
        database, audio, models = (self.folder / name for name in ("outspoken.db", "audio", "models"))
        written = {"url": f"sqlite:///{database}", "audio": str(audio), "models": str(models)}
        return _SETTINGS.format(**{name: json.dumps(value) for name, value in written.items()}).encode()

    def _token(self, settings: RelaySettings) -> Made:
        configured, file = settings.relay.admin.token.value, settings.token_file
        new = not configured and not file.exists()
        token_of(configured, file)
        return Made("relay.admin.token" if configured else str(file), "opens the console", new)

    def _known_api_key(self, database: Database) -> Made:
        """A key that the database does not know opens nothing: it is replaced, and so is one whose file is gone."""
        written = self.api_key.read_text("utf-8") if self.api_key.exists() else ""
        known = {key.name: key.id for key in engine.keys.all_keys(database)}
        new = f"_{known.get(API_KEY)}_" not in written
        if new:
            if API_KEY in known:
                engine.keys.remove(database, API_KEY)
            _write(self.api_key, engine.keys.add(database, API_KEY).encode() + b"\n")
        return Made(str(self.api_key), "opens the engine: every request needs a key", new)

    def _written(self, file: Path, purpose: str, content: bytes) -> Made:
        new = not file.exists()
        if new:
            _write(file, content)
        return Made(str(file), purpose, new)


def _sign_with_a_key(database: Database) -> None:
    """It stands in no file, which a rotation would make untrue. One that was retired stays so."""
    if not keys.keys(database):
        keys.add(database, keys.generate(), None, Actor(getpass.getuser(), "cli"), database.now())


def _write(file: Path, content: bytes) -> None:
    """For its owner alone, and whole or not at all."""
    temporary = file.with_name(f".{file.name}.new")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as writer:
        writer.write(content)
    sync(temporary)
    temporary.replace(file)
