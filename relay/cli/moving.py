"""How far a move has come, for whoever waits for it: one bar a table on a terminal, nothing for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from relay.cli.terminal import console
from relay.outbox.moving import MoveProgress

_WORDS = {"copy": "copying", "compare": "comparing"}


@contextmanager
def moving_bar() -> Iterator[Callable[[MoveProgress], None]]:
    """Whom to tell."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        tasks: dict[tuple[str, str], TaskID] = {}

        def tell(progress: MoveProgress) -> None:
            name = (progress.step, progress.table)
            if name not in tasks:
                tasks[name] = bars.add_task(f"{_WORDS[progress.step]} {progress.table}", total=progress.rows)
            bars.update(tasks[name], completed=progress.done)

        yield tell
