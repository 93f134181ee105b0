"""The dashboards against Grafana's own types, by the TypeScript compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.stage import ROOT

SCHEMA = Path(__file__).with_name("schema")
INSTALLED = ROOT / "build" / "grafana-schema"
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
OPTIONS = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    *("--target", "es2022"),
    *("--module", "esnext"),
    *("--moduleResolution", "bundler"),
]

pytestmark = pytest.mark.needs("npm")


@pytest.fixture(scope="module")
def compiler() -> Path:
    """The compiler beside Grafana's types; installed into build/ once."""
    same = all((INSTALLED / one.name).exists() and same_text(one, INSTALLED / one.name) for one in SCHEMA.iterdir())
    if not same or not (INSTALLED / "node_modules" / ".package-lock.json").exists():
        shutil.rmtree(INSTALLED, ignore_errors=True)
        shutil.copytree(SCHEMA, INSTALLED)
        npm = ("npm", "install", "--prefix", str(INSTALLED), "--no-package-lock", "--no-audit", "--no-fund")
        subprocess.run(npm, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return INSTALLED / "node_modules" / ".bin" / "tsc"


def same_text(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def check(compiler: Path, folder: Path, *documents: str) -> str:
    """What the compiler finds wrong with dashboards."""
    files = []
    for number, document in enumerate(documents):
        files.append(folder / f"dashboard{number}.ts")
        files[-1].write_text(
            f"import type {{ Shape }} from '{INSTALLED}/shape';\nconst d: Shape = {document};\nexport default d;\n"
        )
    done = subprocess.run(
        [compiler, *OPTIONS, *files], capture_output=True, text=True, timeout=120, check=False, env=os.environ
    )
    return done.stdout + done.stderr


def test_grafana_knows_every_word_of_the_dashboards(compiler: Path, tmp_path: Path) -> None:
    assert len(DASHBOARDS) == 4
    assert check(compiler, tmp_path, *(path.read_text("utf-8") for path in DASHBOARDS)) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [('"unit": "s"', '"unitt": "s"'), ('"w": 24', '"w": "24"'), ('"mode": "absolute"', '"mode": "absolut"')],
)
def test_a_misspelt_word_or_a_wrong_value_would_be_found(
    compiler: Path, tmp_path: Path, right: str, wrong: str
) -> None:
    document = DASHBOARDS[0].read_text("utf-8")
    assert right in document
    assert "error TS" in check(compiler, tmp_path, document.replace(right, wrong, 1))
