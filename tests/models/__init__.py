"""A Whisper model small enough for a repository, trained on spoken digits, and clips that it has not learnt from."""

from pathlib import Path

DIGITS = Path(__file__).parent / "digits"
CLIPS = Path(__file__).parent / "clips"
