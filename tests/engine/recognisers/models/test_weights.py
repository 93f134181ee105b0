"""`model.bin`: walked from its first byte to its last, and not believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ctranslate2.specs import model_spec

from engine.recognisers.models.weights import VERSIONS, WHISPER, BadWeights, read_weights
from tests.engine.recognisers.models.making import bundled, weights


def written(folder: Path, data: bytes) -> Path:
    file = folder / "model.bin"
    file.write_bytes(data)
    return file


def test_the_real_one_is_whisper_with_a_shape_for_every_variable() -> None:
    found = read_weights(bundled().path / "model.bin")
    assert (found.architecture, found.tokens, len(found.shapes)) == (WHISPER, 51864, 148)
    assert found.shapes["encoder/conv1/weight"] == (384, 80, 3)


def test_what_ctranslate2_writes_now_is_known() -> None:
    assert max(VERSIONS) == model_spec.CURRENT_BINARY_VERSION


def test_another_architecture_is_told_by_its_name(tmp_path: Path) -> None:
    assert read_weights(written(tmp_path, weights("TransformerSpec"))).architecture == "TransformerSpec"


def test_cut_off_anywhere_it_is_not_whole(tmp_path: Path) -> None:
    whole = weights()
    for length in range(len(whole)):
        with pytest.raises(BadWeights, match=rf"is cut off: it has {length} bytes"):
            read_weights(written(tmp_path, whole[:length]))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (bytes(1000), r"is no model of CTranslate2 that is known here \(binary version 0\)"),
        (weights(version=7), r"binary version 7"),
        (b"<!DOCTYPE html><html>", r"is no model of CTranslate2"),
        (weights() + b"\0" * 9, r"goes on for 9 bytes after its end"),
        (weights()[:-62] + bytes(62), r"goes on for 56 bytes"),
        (weights()[:24] + bytes(len(weights()) - 24), r"is damaged: no name stands at byte"),
        (
            weights().replace(b"\3\0\0\0\2\0\0\0\1", b"\3\0\0\0\x09\0\0\0\1"),
            r"embeddings/weight is no variable of 6 bytes",
        ),
    ],
    ids=["zeros", "a newer layout", "a web page", "more after it", "zeros at its end", "zeros in it", "another shape"],
)
def test_what_is_damaged_is_told_by_where_it_is(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(BadWeights, match=problem):
        read_weights(written(tmp_path, data))
