"""Audio that is sent ahead: what is known of it, and the names of files, which strangers choose. A name is shown and
never opened."""

from __future__ import annotations

import re
from typing import Any, TypedDict
from urllib.parse import unquote

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UPLOAD = re.compile(rf"https?://[^/?#]+(?:/[^?#]*)?/file/(?P<id>{_UUID})", re.IGNORECASE)
_LONGEST = 255


class UploadedFile(TypedDict):
    """What is known of the audio before it is transcribed: seconds as its container claims them."""

    id: str
    filename: str
    audio_duration: float
    number_of_channels: int


def clean_filename(name: str) -> str:
    """A file's name without the folders before it and without anything that a header or a terminal would obey;
    `audio` where nothing is left."""
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(char for char in last if char.isprintable() and char != '"')
    return printable.strip(" .")[:_LONGEST] or "audio"


def filename_of(url: str) -> str:
    """The name that a URL gives its file."""
    path = re.split(r"[?#]", url)[0].partition("://")[2].partition("/")[2]
    return clean_filename(unquote(path))


def upload_url(base: str, upload_id: str) -> str:
    """Where an upload is, for the key that made it and nobody else."""
    return f"{base}/file/{upload_id}"


def upload_id_of(url: str) -> str | None:
    """The upload that a URL of `upload_url` names, whatever its host: who owns it is asked of the archive."""
    found = _UPLOAD.fullmatch(url)
    return found["id"].lower() if found else None


def extension_of(container: str, filename: str) -> str:
    """The extension that suits a container by FFmpeg's name; where that is a list, the file's own if it is in it."""
    names = container.split(",")
    own = filename.rpartition(".")[2].lower()
    if own in names:
        return own
    return {"mov": "mp4", "matroska": "mkv"}.get(names[0], names[0])


def uploaded(url: str, file: UploadedFile, extension: str, size: int, source: str | None = None) -> dict[str, Any]:
    """The answer to audio that was sent ahead. `size` is in bytes, `source` the URL that it was fetched from."""
    metadata: dict[str, Any] = {**file, "extension": extension, "size": size}
    return {"audio_url": url, "audio_metadata": metadata | ({"source": source} if source else {})}
