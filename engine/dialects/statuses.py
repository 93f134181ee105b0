"""The names of HTTP statuses, as error codes are made of them: the same on every Python."""

from __future__ import annotations

from http import HTTPStatus

# From 3.13 on Python has other names for these, those of RFC 9110; callers compare codes with what they know.
_OF_OLD = {
    413: "REQUEST_ENTITY_TOO_LARGE",
    414: "REQUEST_URI_TOO_LONG",
    416: "REQUESTED_RANGE_NOT_SATISFIABLE",
    422: "UNPROCESSABLE_ENTITY",
}


def status_name(status: int) -> str:
    """`NOT_FOUND` for 404. Raises ValueError for a number that is no status."""
    return _OF_OLD.get(status) or HTTPStatus(status).name
