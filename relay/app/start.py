"""What a relay is started with: all that its command line, its configuration file and its environment say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relay.app.settings import RelaySettings
from relay.service.effective import Setting


@dataclass(frozen=True, slots=True)
class Start:
    """With so many `workers`, by settings that were read from a `file`, if any; `in_force` are the same, for operators
    to look at."""

    settings: RelaySettings
    workers: int
    file: Path | None
    in_force: tuple[Setting, ...]
