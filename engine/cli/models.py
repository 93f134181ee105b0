"""`engine models`: what recognisers there are, and the hub's models on this machine's disk.

This is the only place that ever reaches out to the hub.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from engine.cli.terminal import Config, Json, complaints, console, settings
from engine.errors import EngineError
from engine.recognisers import shelf
from engine.settings import EngineSettings

commands = typer.Typer(no_args_is_help=True, help="List, fetch and remove models.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A short name (tiny to large-v3, turbo, ...), or ORGANISATION/NAME.")
]
Force = Annotated[bool, typer.Option("--force", help="Remove it although a recogniser is configured to use it.")]

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Line:
    """One recogniser, or a model that none uses. `bytes` is its size on disk, `state` ready, missing or incomplete."""

    recogniser: str | None
    kind: str
    model: str
    state: str
    bytes: int
    path: str


@commands.command("list")
def list_models(as_json: Json = False, config: Config = None) -> None:
    """Show every configured recogniser, and every model that was pulled."""
    with complaints():
        lines = list(_lines(settings(config).engine))
        if as_json:
            print("\n".join(json.dumps(asdict(line)) for line in lines))
        else:
            _print_table(lines)


@commands.command()
def pull(name: Name, config: Config = None) -> None:
    """Fetch a model from the hub, or what is still missing of it."""
    with complaints():
        folder = settings(config).engine.models_dir
        wanted = _pulled(name, folder)
        with _hub_errors(wanted.name):
            _fetch(wanted.name, wanted.path)
        found = shelf.find(wanted.name, folder)
        print(f"{found.name}: {decimal(found.size)} in {found.path}")


@commands.command()
def remove(name: Name, force: Force = False, config: Config = None) -> None:
    """Delete a model that was pulled, and say how much disk that frees."""
    with complaints():
        engine = settings(config).engine
        found = _pulled(name, engine.models_dir)
        if not found.path.is_dir():
            raise EngineError(f"{found.name} is not in {engine.models_dir}; `engine models list` shows what is")
        users = [user for user, recogniser in engine.recognisers.items() if _uses(recogniser.model, found, engine)]
        if users and not force:
            raise EngineError(
                f"{found.name} is the model of engine.recognisers.{users[0]}: take it out of the configuration first, "
                "or say --force, and the engine does not start until it is pulled again"
            )
        shutil.rmtree(found.path)
        with suppress(OSError):  # of the same organisation there may be more
            found.path.parent.rmdir()
        print(f"{found.name}: {decimal(found.size)} freed")


def _lines(engine: EngineSettings) -> Iterator[Line]:
    used = set()
    for name, recogniser in engine.recognisers.items():
        if found := shelf.look(recogniser.model, engine.models_dir):
            used.add(found.path)
            yield _line(name, "whisper", found)
        else:
            yield Line(name, "whisper", recogniser.model, "missing", 0, "")
    for found in shelf.shelved(engine.models_dir):
        if found.path not in used:
            yield _line(None, "whisper", found)


def _line(recogniser: str | None, kind: str, found: shelf.Shelved) -> Line:
    state = "ready" if not found.missing else "incomplete" if found.size else "missing"
    return Line(recogniser, kind, found.name, state, found.size, str(found.path))


def _print_table(lines: list[Line]) -> None:
    rows = [("RECOGNISER", "KIND", "MODEL", "STATE", "SIZE", "PATH")]
    for line in lines:
        size = decimal(line.bytes) if line.bytes else "-"
        rows.append((line.recogniser or "-", line.kind, line.model, line.state, size, line.path or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _pulled(name: str, folder: Path) -> shelf.Shelved:
    """The place of a repository on disk, whether anything is there or not."""
    known = shelf.repository(name)
    found = shelf.look(known, folder) if known else None
    if found is None:
        raise EngineError(f"{name!r} is no model of the hub; say {', '.join(shelf.REPOSITORIES)}, or ORGANISATION/NAME")
    return found


def _uses(model: str, found: shelf.Shelved, engine: EngineSettings) -> bool:
    used = shelf.look(model, engine.models_dir) if model else None
    return used is not None and used.path.resolve() == found.path.resolve()


def _fetch(repository: str, folder: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download  # only here: it takes a while to load
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # they would stand beside ours
    hub = HfApi().model_info(repository, files_metadata=True)
    wanted = [file for file in hub.siblings or () if any(fnmatch(file.rfilename, form) for form in shelf.FILES)]
    with _watched(repository, folder, sum(file.size or 0 for file in wanted)):
        snapshot_download(repository, revision=hub.sha, local_dir=folder, allow_patterns=list(shelf.FILES))


@contextmanager
def _watched(title: str, folder: Path, total: int) -> Iterator[None]:
    """A bar that follows what lies on disk: that is true for every way by which the hub's library may fetch."""
    done = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    quiet = not sys.stderr.isatty()
    with Progress(*columns, TimeRemainingColumn(), console=console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(title, total=total)

        def follow() -> None:
            while not done.wait(_LOOK_SECONDS):
                bar.update(task, completed=min(total, shelf.size_on_disk(folder)))

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
            bar.update(task, completed=total)
        finally:
            done.set()
            watcher.join()


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """The hub's many exceptions in a sentence that says what to do."""
    from huggingface_hub import errors

    # Its HTTP library differs from version to version; what that raises is a base of its own errors, as OSError is.
    unreachable: tuple[type[Exception], ...] = errors.HfHubHTTPError.__bases__
    try:
        yield
    except errors.GatedRepoError:
        raise EngineError(f"{repository}: accept its terms on the hub first, and set HF_TOKEN") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise EngineError(
            f"{repository}: the hub has no such model, or it is private and HF_TOKEN is not set"
        ) from None
    except unreachable as error:
        raise EngineError(
            f"{repository}: the hub could not be reached ({type(error).__name__}). What came is kept: try again, "
            f"or pull it where there is a network and copy the folder {repository} into engine.models_dir"
        ) from None
