"""What the schemas of callbacks say of a document, and what an error tells. The schemas leave room for more keys; here
there is none."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tests.acceptance.stage import ROOT

SCHEMAS = ROOT / "docs" / "schemas"


def hold(dialect: str, body: str | bytes) -> Any:
    """The document of a callback, held against the dialect's schema: `deepgram`, `gladia` or `openai`."""
    document = json.loads(body)
    kinds = _schema(dialect)["$defs"]
    fitting = [kind for kind in kinds.get("callbacks", []) if not list(_validator(dialect, kind).iter_errors(document))]
    if len(fitting) != 1:
        nearest = min((list(_validator(dialect, kind).iter_errors(document)) for kind in kinds["callbacks"]), key=len)
        raise AssertionError(f"{dialect}: {fitting or [error.message for error in nearest]}: {body!r}")
    return document


@cache
def _schema(dialect: str) -> Any:
    schema = json.loads((SCHEMAS / f"{dialect}.json").read_text("utf-8"))
    callbacks = [one["$ref"].rpartition("/")[2] for one in schema["oneOf"]]
    return _closed(schema) | {"$defs": _closed(schema["$defs"]) | {"callbacks": callbacks}}


@cache
def _validator(dialect: str, kind: str) -> Draft202012Validator:
    schema = _schema(dialect)
    definitions = {name: one for name, one in schema["$defs"].items() if name != "callbacks"}
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": definitions})


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(one) for name, one in schema.items()}
    return {"additionalProperties": False} | closed if "properties" in schema else closed


def told(error: dict[str, str]) -> str:
    """All that an error in Deepgram's shape says, in one line: its sentence, and the details where there are any."""
    details = error.get("details")
    return f"{error['err_msg'].removesuffix('.')}. {details}" if details else error["err_msg"]
