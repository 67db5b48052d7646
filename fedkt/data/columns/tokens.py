"""Text to token ids without a vocabulary file: every party gets the same ids from the words, or bytes, alone.

The hashing trick (Weinberger et al. 2009, arXiv:0902.2206): the id of a word is a stable hash of it, so
nothing about anybody's texts must be shared to agree on ids. Two words may share one.
"""

import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.errors import InputError

VOCABULARY = 20_000
"""Number of ids: 0 is padding, words get 1 to 19 999."""

LENGTH = 128
"""Tokens per text: longer texts are cut, shorter ones padded at their end."""

BYTE_IDS = 257
"""Number of ids of bytes: 0 is padding, byte b is 1 + b."""

_PLAIN = re.compile(r"\w+|[^\w\s]")

UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf"  # Tai Le, New Tai Lue, Tai Tham
    "\u3005-\u3007\u3031-\u3035\u303b\u303c\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff"  # kana
    "\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Characters of scripts that are written without spaces between words, as ranges."""

_UNSEEN = {0x200B: " ", **dict.fromkeys((0xAD, 0x200C, 0x200D, 0x2060, 0xFEFF))}
"""What is not drawn: a zero-width space ends a word in Thai or Khmer; soft hyphens, joiners and byte order
marks are left out by some who write the same word."""


def tokenise(
    texts: Sequence[str], *, vocabulary: int = VOCABULARY, length: int = LENGTH
) -> NDArray[np.int64]:
    """Return token ids [n, length] of lower-cased words and single other marks, in Unicode's form NFC.

    A word keeps its combining signs. Where a script is written without spaces (:data:`UNSPACED`), each two
    neighbouring characters with their signs are a token (one that stands alone is one, too). A token's id is
    1 + CRC-32 of its UTF-8 bytes modulo (vocabulary - 1).
    """
    words: list[str] = []
    counts = np.zeros(len(texts), np.int64)
    for number, text in enumerate(texts):
        found = split_words(text)[:length]
        counts[number] = len(found)
        words += found
    position_of: dict[str, int] = {}
    word = np.fromiter((position_of.setdefault(w, len(position_of)) for w in words), np.int64, len(words))
    id_of = np.fromiter((id_of_word(w, vocabulary) for w in position_of), np.int64)
    tokens = np.zeros((len(texts), length), np.int64)
    tokens[np.arange(length) < counts[:, None]] = id_of[word]
    return tokens


def passages(where: str, texts: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Return the bytes of texts [n] as ids [n, length]: each is cut after ``length`` bytes, or padded.

    ``texts``: bytes, or characters, which become UTF-8. Raises InputError where one is missing or no text.

    >>> passages("x", np.array([b"to be", b"or"]), 3).tolist()
    [[117, 112, 33], [112, 115, 0]]
    """
    found = np.zeros((len(texts), length), np.int64)
    for row, text in enumerate(texts.tolist()):
        if not isinstance(text, str | bytes):
            raise InputError(f"{where}: x has no text in row {row}; leave the row out, or give one.")
        held = (text.encode() if isinstance(text, str) else text)[:length]
        found[row, : len(held)] = np.frombuffer(held, np.uint8)
        found[row, : len(held)] += 1
    return found


def text_of(ids: NDArray[np.int64]) -> bytes:
    """Return the bytes of one row of :func:`passages` [length]."""
    return bytes((ids[ids > 0] - 1).astype(np.uint8))


def id_of_word(word: str, vocabulary: int = VOCABULARY) -> int:
    """Return a word's id, 1 to ``vocabulary - 1``."""
    return 1 + zlib.crc32(word.encode()) % (vocabulary - 1)


def split_words(text: str) -> list[str]:
    """Return the tokens of a text in order."""
    lowered = text.lower()
    if lowered.isascii():
        return _PLAIN.findall(lowered)
    tokens: list[str] = []
    for word, run in _words().findall(unicodedata.normalize("NFC", lowered.translate(_UNSEEN))):
        if run:
            signs = _character().findall(run)
            tokens += map("".join, pairwise(signs)) if len(signs) > 1 else signs
        else:
            tokens.append(word)
    return tokens


@lru_cache(maxsize=1)
def _words() -> re.Pattern[str]:
    r"""Return the pattern of a word or mark, or of a run without spaces (the two groups).

    ``\w`` of Python's re leaves combining signs out.
    """
    signs = _signs()
    spaced, dense = rf"[^\W{UNSPACED}]", rf"[{UNSPACED}]"
    return re.compile(rf"((?:{spaced}[{signs}]*)+|(?!{dense})[^\w\s][{signs}]*)|((?:{dense}[{signs}]*)+)")


@lru_cache(maxsize=1)
def _character() -> re.Pattern[str]:
    return re.compile(rf".[{_signs()}]*", re.DOTALL)


@lru_cache(maxsize=1)
def _signs() -> str:
    """Return the combining signs as ranges of a character class; they lie below 0x20000, and from 0xE0100."""
    below = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)]
    points = np.array([point for point in below if unicodedata.category(chr(point))[0] == "M"])
    runs = np.split(points, np.flatnonzero(np.diff(points) > 1) + 1)
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
