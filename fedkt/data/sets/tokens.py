"""Text to token ids without a vocabulary file: every party gets the same ids from the words alone.

The hashing trick (Weinberger et al. 2009, arXiv:0902.2206): the id of a word is a stable hash of it, so
nothing about anybody's texts must be shared to agree on ids. Two words may share one.
"""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 20_000
"""Number of ids: 0 is padding, words get 1 to 19 999."""

LENGTH = 128
"""Tokens per text: longer texts are cut, shorter ones padded at their end."""

_SEPARATOR = "\ue000"  # a private-use character: no word holds it
_WORD = re.compile(r"\w+|[^\w\s]")


def tokenise(
    texts: Sequence[str], *, vocabulary: int = VOCABULARY, length: int = LENGTH
) -> NDArray[np.int64]:
    """Return token ids [n, length] of lower-cased words and single punctuation marks.

    A word's id is 1 + CRC-32 of its UTF-8 bytes modulo (vocabulary - 1).
    """
    joined = f" {_SEPARATOR} ".join(texts)
    if joined.count(_SEPARATOR) != len(texts) - 1:
        joined = f" {_SEPARATOR} ".join(text.replace(_SEPARATOR, " ") for text in texts)
    words = _WORD.findall(joined.lower())
    position_of: dict[str, int] = {}
    word = np.fromiter((position_of.setdefault(w, len(position_of)) for w in words), np.int64, len(words))
    id_of = np.fromiter((1 + zlib.crc32(w.encode()) % (vocabulary - 1) for w in position_of), np.int64)
    is_separator = word == position_of.get(_SEPARATOR, -1)
    text = np.cumsum(is_separator)
    # Tokens before the first separator have place 0, 1, ...; a separator itself has place -1.
    start = np.concatenate([[0], np.flatnonzero(is_separator) + 1])
    place = np.arange(len(words)) - start[text]
    kept = ~is_separator & (place < length)
    tokens = np.zeros((len(texts), length), np.int64)
    tokens[text[kept], place[kept]] = id_of[word[kept]]
    return tokens
