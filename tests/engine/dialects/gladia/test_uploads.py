"""Names that strangers choose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.dialects.gladia import clean_filename, extension_of, filename_of, upload_id_of, upload_url
from tests.cases import cases

UPLOAD = "0199c0de-0000-7000-8000-00000000000a"


@cases(
    ("sent", "kept"),
    [
        ("a.wav", "a.wav"),
        ("../../etc/passwd", "passwd"),
        (r"C:\calls\a.wav", "a.wav"),
        ('a"b\r\nSet-Cookie: x.wav', "abSet-Cookie: x.wav"),
        ("Grüße 1.wav", "Grüße 1.wav"),
        ("..", "audio"),
        ("", "audio"),
        ("a/", "audio"),
        ("\x00\x1b[2J.wav", "[2J.wav"),
        ("x" * 999, "x" * 255),
    ],
)
def test_a_file_name_is_cleaned(sent: str, kept: str) -> None:
    assert clean_filename(sent) == kept


@given(st.text(max_size=80))
def test_a_clean_name_leads_nowhere_and_ends_no_line(sent: str) -> None:
    kept = clean_filename(sent)
    assert kept
    assert kept.isprintable()
    assert not set(kept) & set('/\\"')
    assert kept not in {".", ".."}


@cases(
    ("url", "name"),
    [
        ("https://u:p@x.example/a/b%20c.wav?token=t#f", "b c.wav"),
        ("https://x.example", "audio"),
        ("https://x.example?file=/etc/passwd", "audio"),
        ("https://x.example/a%2F..%2Fb.mp3", "b.mp3"),
        ("nonsense", "audio"),
    ],
)
def test_a_url_names_its_file(url: str, name: str) -> None:
    assert filename_of(url) == name


@cases("base", ["http://127.0.0.1:8004", "https://speech.example", "https://x.example/a/b"])
def test_an_upload_is_recognised_by_its_path(base: str) -> None:
    assert upload_id_of(upload_url(base, UPLOAD)) == UPLOAD


@cases(
    "url",
    [f"https://x.example/file/{UPLOAD}?a", f"https://x.example/file/{UPLOAD}/", "https://x.example/file/1", "", "x"]
    + [f"https://x.example/?/file/{UPLOAD}", f"file:///file/{UPLOAD}", f"https:///file/{UPLOAD}"],
)
def test_anything_else_is_no_upload(url: str) -> None:
    assert upload_id_of(url) is None


@cases(
    ("container", "filename", "extension"),
    [
        ("wav", "a.wav", "wav"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "a.m4a", "m4a"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "a.wav", "mp4"),
        ("matroska,webm", "a", "mkv"),
        ("ogg", "a.opus", "ogg"),
    ],
)
def test_the_extension_is_what_the_audio_is(container: str, filename: str, extension: str) -> None:
    assert extension_of(container, filename) == extension
