"""Forms, cut into pieces at every place, and what is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api.multipart import MAX_HEAD, MAX_PARTS, FormData, Malformed, Part
from tests.cases import cases

TYPE = "multipart/form-data; boundary=B"
Found = list[tuple[str, str | None, bytes]]


def read(body: bytes, size: int = 0, content_type: str = TYPE) -> tuple[Found, bool]:
    """The parts of a body that comes in pieces of `size` bytes, and whether it came to its end."""
    form, found = FormData(content_type), []
    for start in range(0, len(body), size or len(body) or 1):
        for event in form.feed(body[start : start + (size or len(body))]):
            if isinstance(event, Part):
                found.append((event.name, event.filename, b""))
            else:
                found[-1] = (*found[-1][:2], found[-1][2] + event)
    return found, form.finished


def part(content: bytes, disposition: str = 'form-data; name="audio"; filename="a.wav"') -> bytes:
    head = f"Content-Disposition: {disposition}\r\nContent-Type: audio/wav\r\n\r\n"
    return b"--B\r\n" + head.encode() + content + b"\r\n"


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 40))
def test_parts_come_out_whole_however_the_body_is_cut(contents: list[bytes], size: int) -> None:
    contents = [content.replace(b"--B", b"") for content in contents]
    body = b"a preamble\r\n" + b"".join(map(part, contents)) + b"--B--\r\nan epilogue"
    assert read(body, size) == ([("audio", "a.wav", content) for content in contents], True)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_body_breaks_the_reader(body: bytes, size: int) -> None:
    try:
        _, finished = read(b"--B\r\n" + body, size)
    except Malformed:
        return
    assert not finished or b"--B--" in b"--B\r\n" + body


@cases("content", [b"\r\n", b"\r\n--", b"\r\n--A", b"--B", b"\r", b"\r\n\r\n--\r\n", b"-" * 500])
@cases("size", [1, 3, 0])
def test_what_only_resembles_a_boundary_is_content(content: bytes, size: int) -> None:
    assert read(part(content) + b"--B--", size) == ([("audio", "a.wav", content)], True)


def test_space_may_follow_a_boundary() -> None:
    assert read(part(b"x").replace(b"--B\r\n", b"--B \t\r\n") + b"--B--") == ([("audio", "a.wav", b"x")], True)


def test_a_body_without_its_last_boundary_is_not_finished() -> None:
    _, finished = read(part(b"x"))
    assert not finished


@cases(
    ("written", "meant"),
    [
        ('"a;b.wav"', "a;b.wav"),
        (r'"a\"b.wav"', 'a"b.wav'),
        ('"a%22b%0D%0A.wav"', 'a"b\r\n.wav'),
        ("plain.wav", "plain.wav"),
        ('"grüße.wav"', "grüße.wav"),
        ('"../../etc/passwd"', "../../etc/passwd"),
        ('""', ""),
    ],
)
def test_file_names_mean_what_clients_write(written: str, meant: str) -> None:
    assert read(part(b"x", f'form-data; name="audio"; filename={written}') + b"--B--")[0] == [("audio", meant, b"x")]


def test_a_file_name_in_an_encoding_is_decoded() -> None:
    disposition = "form-data; name=audio; filename*=UTF-8''gr%C3%BC%C3%9Fe.wav"
    assert read(part(b"x", disposition) + b"--B--")[0] == [("audio", "grüße.wav", b"x")]


def test_a_part_may_have_no_name_and_no_head() -> None:
    body = b"--B\r\n\r\nx\r\n--B\r\nContent-Type: a/b\r\n\r\ny\r\n--B--"
    assert read(body) == ([("", None, b"x"), ("", None, b"y")], True)


@cases(
    "content_type",
    ["", "audio/wav", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=B"]
    + ["multipart/form-data; boundary=" + "B" * 71],
)
def test_what_is_no_form_is_named(content_type: str) -> None:
    with pytest.raises(Malformed, match="be sent as multipart/form-data with a boundary"):
        FormData(content_type)


@cases("boundary", ['"a b"', "----WebKitFormBoundary7MA4YWxk", "'()+_,-./:=?"])
def test_any_boundary_of_the_standard_will_do(boundary: str) -> None:
    plain = boundary.strip('"')
    body = part(b"x").replace(b"--B", b"--" + plain.encode()) + f"--{plain}--".encode()
    quoted = f'multipart/form-data; boundary="{plain}"'
    assert read(body, 7, quoted) == ([("audio", "a.wav", b"x")], True)


@cases(
    ("body", "why"),
    [
        (b"--Bx\r\n", "nothing after a boundary"),
        (b"--B" + b" " * 1000, "nothing after a boundary"),
        (b"--B\r\n" + b"a" * (MAX_HEAD + 1), "headers of no more than"),
        (b"--B\r\n" + b"a" * (MAX_HEAD + 1) + b"\r\n\r\n", "headers of no more than"),
        (part(b"x") * (MAX_PARTS + 1), "no more than 64 parts"),
    ],
)
@cases("size", [1000, 0])
def test_nothing_may_go_on_for_ever(body: bytes, why: str, size: int) -> None:
    with pytest.raises(Malformed, match=why):
        read(body, size)
