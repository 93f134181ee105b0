"""Has pydantic read sections of the configuration (relay/service/section.py), for whoever reads one."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, ErrorDetails
from pydantic_core.core_schema import (
    int_schema,
    no_info_after_validator_function,
    no_info_before_validator_function,
    no_info_plain_validator_function,
)

from relay.service.section import Bounds, Invalid, Mistake, Parsed, Read, Requirement

# Where pydantic speaks of Python.
_SAID = {
    "unexpected_keyword_argument": "no such setting (misspelt?)",
    "path_type": "Input should be a path in quotes",
}


def valid(kind: Any, written: object) -> Any:
    """The value as a section, or another type that a setting can have. Raises Invalid."""
    try:
        return TypeAdapter(kind).validate_python(written)
    except ValidationError as error:
        # include_input=False: a value may be a secret.
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise Invalid(*map(_mistake, faults)) from None


def schema_of(mark: Any, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """What a mark means to pydantic, or a type that is made of a `source`."""
    match mark:
        case Bounds():
            return int_schema(ge=mark.ge, le=mark.le)
        case Read():
            return no_info_before_validator_function(mark.read, handler(source))
        case Parsed():
            return no_info_plain_validator_function(mark.parse)
        case Requirement():
            return no_info_after_validator_function(_checked_by(mark), handler(source))
    return no_info_after_validator_function(mark, handler(source))


def _checked_by(requirement: Requirement) -> Any:
    def checked(value: Any) -> Any:
        requirement.check(value)
        return value

    return checked


def _mistake(fault: ErrorDetails) -> Mistake:
    said = _SAID.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    return Mistake(tuple(map(str, fault["loc"])), said)
