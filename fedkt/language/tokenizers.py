"""Tokenizers that lose nothing: each byte by itself, or byte pairs that a party's own text has in plenty.

Byte pair encoding: Sennrich, Haddow, Birch 2016, "Neural Machine Translation of Rare Words with Subword
Units", ACL, arXiv 1508.07909; on bytes: Radford et al. 2019. It is learned and applied by the package
``tokenizers``, which works on characters: byte b is shown to it as character 256 + b, so that any bytes, also
those that are no UTF-8, come back as they were.

What is learned is a list of *merges*: tokens 0 to 255 are the bytes, token 256 + i is merge i, the two tokens
that it joins. A list of pairs of numbers is all that a model has to keep.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from fedkt.errors import InputError

BYTES = tuple(bytes([b]) for b in range(256))
Merges = tuple[tuple[int, int], ...]

_FIRST = 256
_LETTERS = "".join(f"{chr(_FIRST + a)}-{chr(_FIRST + b)}" for a, b in ((65, 90), (97, 122), (128, 255)))
_DIGITS = f"{chr(_FIRST + 48)}-{chr(_FIRST + 57)}"
_BLANK = chr(_FIRST + 32)
_WORDS = f"{_BLANK}?[{_LETTERS}]+|{_BLANK}?[{_DIGITS}]+|{_BLANK}?[^{_BLANK}{_LETTERS}{_DIGITS}]+|{_BLANK}+"
"""A word with the blank before it, a number, or what is neither: no token reaches over the edge of one."""


class Tokenizer:
    """Bytes to ids and back. ``merges``: none for single bytes; ``token_bytes``: what each id stands for.

    >>> tokenizer = Tokenizer(((116, 104), (256, 101)))  # t h, th e
    >>> tokenizer.token_bytes[256:], tokenizer.encode(b"the thaw")
    ((b'th', b'the'), [257, 32, 256, 97, 119])
    """

    def __init__(self, merges: Iterable[tuple[int, int]] = ()) -> None:
        self.merges: Merges = tuple((int(a), int(b)) for a, b in merges)
        held = list(BYTES)
        for a, b in self.merges:
            if not (0 <= a < len(held) and 0 <= b < len(held)):
                raise InputError(f"the tokenizer joins tokens {a} and {b}, of which it has only {len(held)}.")
            held.append(held[a] + held[b])
        self.token_bytes = tuple(held)

    def encode(self, text: bytes) -> list[int]:
        """Return the ids of a text."""
        if not self.merges:
            return list(text)
        ids: list[int] = _coder(self.merges).encode(shown(text)).ids
        return ids


def learned(texts: Sequence[bytes], size: int) -> Merges:
    """Return the merges of a tokenizer with at most ``size`` tokens, learned of these texts.

    Fewer where no two tokens stand beside each other twice. Raises InputError where ``size`` is below 256.
    """
    if size < len(BYTES):
        raise InputError(
            f"a tokenizer of {size} tokens has not even the 256 bytes; it must have at least 256."
        )
    from tokenizers.trainers import BpeTrainer

    coder = _blank_coder({}, [])
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=[chr(_FIRST + b) for b in range(256)],
        special_tokens=[],
    )
    coder.train_from_iterator([shown(text) for text in texts], trainer)
    ids = {chr(_FIRST + b): b for b in range(256)}
    merges: list[tuple[int, int]] = []
    for a, b in _merges_of(coder):
        if a + b in ids:  # two ways to one token: the first stands
            continue
        merges.append((ids[a], ids[b]))
        ids[a + b] = 255 + len(merges)
    return tuple(merges)


def shown(text: bytes) -> str:
    """Return bytes as the characters that stand for them."""
    return "".join(chr(_FIRST + b) for b in text)


def _blank_coder(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    try:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    except ImportError:
        raise InputError(
            "a tokenizer of byte pairs needs the package tokenizers, which is not installed: "
            "pip install 'fedkt[lm]'; tokens of single bytes need none."
        ) from None
    coder = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    coder.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    return coder


def _merges_of(coder: Any) -> list[tuple[str, str]]:
    import json

    return [(a, b) for a, b in json.loads(coder.to_str())["model"]["merges"]]


@lru_cache(maxsize=32)
def _coder(merges: Merges) -> Any:
    held = [chr(_FIRST + b) for b in range(256)]
    pairs = []
    for a, b in merges:
        pairs.append((held[a], held[b]))
        held.append(held[a] + held[b])
    return _blank_coder({token: i for i, token in enumerate(held)}, pairs)
