"""The receivers' guide under test: its programs verify what the relay signs, and refuse what it did not."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from relay.policy.signing import parse_key, signature
from tests.acceptance.stage import ROOT

KEY = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
OLDER = f"whsec_{base64.b64encode(bytes(range(24))).decode()}"
BODY = '{"transcript": "grüß Gott"}'.encode()

Verify = Callable[[str, dict[str, str], bytes], bool]


def program(language: str) -> str:
    """The guide's own lines."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs" / "receivers.md").read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


def in_python(key: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(program("python"), names)
    return bool(names["verify"](key, headers, body))


def in_javascript(key: str, headers: dict[str, str], body: bytes) -> bool:
    given = json.dumps([key, headers, base64.b64encode(body).decode()])
    call = f"const [key, headers, body] = {given}; console.log(verify(key, headers, Buffer.from(body, 'base64')));"
    told = subprocess.check_output(["node", "-e", program("javascript") + call], text=True)
    return {"true": True, "false": False}[told.strip()]


IN_GO = """package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	var given struct {
		Key     string
		Headers map[string]string
		Body    []byte
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		panic(err)
	}
	header := http.Header{}
	for name, value := range given.Headers {
		header.Set(name, value)
	}
	fmt.Print(verify(given.Key, header, given.Body))
}

"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Verify:
    """The guide's program in Go, in a program that calls it."""
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(IN_GO + program("go"))
    build = ("go", "build", "-o", str(folder / "verify"), str(folder / "main.go"))
    subprocess.run(build, check=True, env=os.environ | {"GO111MODULE": "off"}, timeout=300)

    def in_go(key: str, headers: dict[str, str], body: bytes) -> bool:
        given = {"Key": key, "Headers": headers, "Body": base64.b64encode(body).decode()}
        told = subprocess.check_output([str(folder / "verify"), json.dumps(given)], text=True)
        return {"true": True, "false": False}[told]

    return in_go


def with_the_package(key: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        Webhook(key).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def signed(*keys: str, age: float = 0.0) -> dict[str, str]:
    stamp = int(time.time() - age)
    value = signature([parse_key(key) for key in keys], "id-1", stamp, BODY)
    return {"webhook-id": "id-1", "webhook-timestamp": str(stamp), "webhook-signature": value}


@pytest.mark.acceptance
@pytest.mark.needs("go")
def test_the_guides_program_in_go_is_compiled_and_does_the_same(compiled: Verify) -> None:
    accepts_what_the_relay_signed_and_nothing_else(compiled)


@pytest.mark.parametrize(
    "verify", [in_python, with_the_package, pytest.param(in_javascript, marks=pytest.mark.needs("node"))]
)
def test_the_guides_programs_accept_what_the_relay_signed_and_nothing_else(verify: Verify) -> None:
    accepts_what_the_relay_signed_and_nothing_else(verify)


def accepts_what_the_relay_signed_and_nothing_else(verify: Verify) -> None:
    assert verify(KEY, signed(KEY), BODY)
    assert verify(KEY, signed(OLDER, KEY), BODY)
    assert not verify(OLDER, signed(KEY), BODY)
    assert not verify(KEY, signed(KEY), BODY + b" ")
    assert not verify(KEY, signed(KEY) | {"webhook-id": "id-2"}, BODY)
    assert not verify(KEY, signed(KEY, age=600), BODY)
