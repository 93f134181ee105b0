"""A form with one file in it: the file as it comes, and beside it the fields that are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

from engine.api.multipart import FormData, Malformed, Part


class FileForm:
    """The body of one request. `filename` and `fields`, in the caller's order, are whole once `audio` has ended."""

    def __init__(self, content_type: str, name: str, keep: int = 0) -> None:
        """The file is in the field `name`. At most `keep` bytes of the other fields are kept; with 0 they are passed
        over. Raises Malformed, whose message goes on a sentence that begins with the file's name and `must`."""
        self.filename = ""
        self._form = FormData(content_type)
        self._name = name
        self._keep = keep
        self._seen = False
        self._texts: list[tuple[str, bytearray]] = []

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Name and value of each field but the file."""
        return [(name, text.decode("utf-8", "replace")) for name, text in self._texts]

    async def audio(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of the file. Raises Malformed as above."""
        inside = False
        async for piece in body:
            for event in self._form.feed(piece):
                if isinstance(event, Part):
                    inside = self._enter(event)
                elif inside:
                    yield event
                elif self._keep:
                    self._gather(event)
        if not self._form.finished:
            raise Malformed("be complete: the form ended before its last boundary")
        if not self._seen:
            raise Malformed("be a file in the form")

    def _enter(self, part: Part) -> bool:
        if part.name != self._name:
            self._texts.append((part.name, bytearray()))
            return False
        if self._seen:
            raise Malformed("be one file; send the others one by one")
        self._seen = True
        self.filename = part.filename or ""
        return True

    def _gather(self, piece: bytes) -> None:
        self._texts[-1][1].extend(piece)
        if sum(len(text) for _, text in self._texts) > self._keep:
            raise Malformed(f"be sent with no more than {self._keep} bytes in other fields")
