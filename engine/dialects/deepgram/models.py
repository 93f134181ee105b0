"""Deepgram's names for models, those of its documents, its clients and the frameworks that are built on them. Pure."""

from __future__ import annotations

_USES = {
    "nova-3": ("medical",),
    "nova-2": (
        *("meeting", "phonecall", "finance", "conversationalai", "voicemail", "video", "medical", "drivethru"),
        *("automotive", "atc", "custom"),
    ),
    "nova": ("meeting", "phonecall", "medical", "finance"),
    "enhanced": ("meeting", "phonecall", "finance"),
    "base": ("meeting", "phonecall", "finance", "conversationalai", "voicemail", "video"),
}
_ALONE = ("meeting", "phonecall", "finance", "conversationalai", "voicemail", "video", "custom")

GENERAL = (
    *("general", "nova-3", "nova-3-general", "nova-2", "nova-2-general", "nova", "nova-general"),
    *("enhanced", "enhanced-general", "base", "base-general", "2-general"),
    *("whisper", "whisper-tiny", "whisper-base", "whisper-small", "whisper-medium", "whisper-large"),
)
"""Its models for everyday speech, and its names for Whisper; `2-general` goes with `tier=nova`."""

SPECIAL = (
    *(f"{family}-{use}" for family, uses in _USES.items() for use in uses),
    *(f"2-{use}" for use in _USES["nova-2"]),
    *_ALONE,
)
"""Its models for one kind of speech."""
