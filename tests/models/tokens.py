"""The vocabulary of the digits model: bytes, twenty words as a sentence has them, and the special tokens of Whisper."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.models.speech import LANGUAGES, PHONES

TIME_STEP = 0.02
WINDOW = 30.0
END = "<|endoftext|>"
START = "<|startoftranscript|>"
TRANSCRIBE = "<|transcribe|>"
PREVIOUS = "<|startofprev|>"
NO_SPEECH = "<|nospeech|>"
NO_TIMESTAMPS = "<|notimestamps|>"
SPECIAL = (
    END,
    START,
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    TRANSCRIBE,
    "<|startoflm|>",
    PREVIOUS,
    NO_SPEECH,
    NO_TIMESTAMPS,
)
TIMESTAMPS = tuple(f"<|{step * TIME_STEP:.2f}|>" for step in range(round(WINDOW / TIME_STEP) + 1))

# CTranslate2 tells a multilingual Whisper model by this token; those for English alone lack it.
MULTILINGUAL = ""


def tokenizer() -> Tokenizer:
    """Byte-level BPE whose merges build each word, with its space and in either case, letter by letter."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(dict.fromkeys(merge for word in _written_words() for merge in _merges("Ġ" + word)))
    tokens = [*alphabet, *(left + right for left, right in merges), MULTILINGUAL]
    ids = {token: number for number, token in enumerate(tokens)}
    result = Tokenizer(models.BPE(vocab=ids, merges=merges))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return result


def _written_words() -> Iterable[str]:
    return (form for words in PHONES.values() for word in words for form in (word, word.capitalize()))


def _merges(word: str) -> Iterable[tuple[str, str]]:
    return ((word[:length], word[length]) for length in range(1, len(word)))


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """All tokens by id; the timestamps, which no text is ever encoded to, follow those of the tokenizer."""
    ids = tokenizer.get_vocab()
    return [*sorted(ids, key=ids.__getitem__), *TIMESTAMPS]
