"""A tokenizer of transformers as bytes: which bytes each token stands for, and whether a text comes back.

Two families cover nearly all causal language models: byte-level BPE (GPT-2, Llama 3, Qwen), whose tokens are
written in an alphabet of 256 characters that stand for bytes, and those of SentencePiece (Llama 2, Mistral,
Gemma), which write a space as U+2581 and, for what they lack, ``<0xC3>`` for a byte.
"""

import json
import re
from typing import Any

from fedkt.errors import InputError

SPACE = "\u2581"
"""What SentencePiece writes for a space."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""A token of SentencePiece for one byte."""


class ForeignTokens:
    """A fast tokenizer of transformers, as bytes.

    ``token_bytes`` [outputs]: the bytes of each token; empty for special tokens, and for outputs that stand
    for no token; ``start``: the special one that stands before a text. ``outputs``: of the net, at least as
    many as there are tokens. Raises InputError where the tokenizer cannot keep all bytes, whatever the text,
    has more tokens, or none to begin with.
    """

    token_bytes: tuple[bytes, ...]
    start: int

    def __init__(self, where: str, tokenizer: Any, outputs: int) -> None:
        self.where = where
        about = json.loads(tokenizer.backend_tokenizer.to_str())
        self._tokenizer = tokenizer.backend_tokenizer.from_str(json.dumps(_without_prefix(about)))
        self._tokenizer.encode_special_tokens = True  # "</s>" in a text is a text
        held = self._bytes_of(about)
        if len(held) > outputs:
            raise InputError(
                f"{where}: its tokenizer has {len(held)} tokens, but its net {outputs} outputs; they do not "
                "belong together."
            )
        self.start = self._start(tokenizer, len(held))
        held[self.start] = b""
        self.token_bytes = (*held, *[b""] * (outputs - len(held)))
        self._single = {token[0]: number for number, token in enumerate(held) if len(token) == 1}

    def encode(self, text: bytes) -> list[int]:
        """Return the ids of a text; whether they stand for it is looked at where it is used.

        Bytes that are no UTF-8, as at the end of a passage that was cut inside of a character, are tokens of
        their own. Raises InputError where the tokenizer has none for one.
        """
        ids: list[int] = []
        while text:
            try:
                return ids + self._ids(text.decode())
            except UnicodeDecodeError as error:
                odd = text[error.start]
                if odd not in self._single:
                    raise InputError(
                        f"{self.where}: its tokenizer has no token for the byte 0x{odd:02x}, which is no "
                        f"UTF-8 in {_shown(text)}; convert the text."
                    ) from None
                ids += [*self._ids(text[: error.start].decode()), self._single[odd]]
                text = text[error.start + 1 :]
        return ids

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _start(self, tokenizer: Any, tokens: int) -> int:
        ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        start = next((one for one in ids if one is not None and one < tokens), None)
        if start is None:
            raise InputError(
                f"{self.where}: its tokenizer has no bos_token to begin a text with; give it one."
            )
        return int(start)

    def _bytes_of(self, about: dict[str, Any]) -> list[bytes]:
        added = {token["id"]: token for token in about["added_tokens"]}
        vocabulary = {number: token for token, number in self._tokenizer.get_vocab(False).items()}
        of = self._reader(about)
        found = [b""] * (max([*vocabulary, *added]) + 1)
        for number, token in vocabulary.items():
            found[number] = of(token)
        for number, token in added.items():
            text, byte = token["content"], BYTE.fullmatch(token["content"])
            found[number] = bytes([int(byte[1], 16)]) if byte else b"" if token["special"] else text.encode()
        return found

    def _reader(self, about: dict[str, Any]) -> Any:
        """Return what reads the bytes off a token's text."""
        if "ByteLevel" in _types(about["pre_tokenizer"]) | _types(about["decoder"]):
            return lambda token: bytes(_BYTE_OF[c] for c in token)
        written = json.dumps(
            [about["normalizer"], about["pre_tokenizer"], about["decoder"]], ensure_ascii=False
        )
        if about["model"]["type"] in ("BPE", "Unigram") and SPACE in written:
            return _sentencepiece
        raise InputError(
            f"{self.where}: its tokenizer ({about['model']['type']}) does not keep all bytes of a text; it "
            "must be byte-level BPE, or BPE or Unigram of SentencePiece."
        )


def _byte_characters() -> dict[str, int]:
    """Return the byte that each character of byte-level BPE stands for.

    Printable ones of Latin-1 stand for themselves, the rest in order for U+0100 and on.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(own)]
    return {chr(byte): byte for byte in own} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_BYTE_OF = _byte_characters()


def _sentencepiece(token: str) -> bytes:
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


def _types(part: Any) -> set[str]:
    """Return the types of a part of a tokenizer and of what it is made of."""
    if isinstance(part, list):
        return set().union(*map(_types, part))
    if not isinstance(part, dict):
        return set()
    own = {part["type"]} if isinstance(part.get("type"), str) else set()
    return own.union(*map(_types, part.values()))


def _without_prefix(about: Any) -> Any:
    """Return a tokenizer that puts no space before a text: passages begin where they begin."""
    if isinstance(about, list):
        return [_without_prefix(one) for one in about if not _prepends(one)]
    if not isinstance(about, dict):
        return about
    kept = {key: None if _prepends(value) else _without_prefix(value) for key, value in about.items()}
    for key, never in (("add_prefix_space", False), ("prepend_scheme", "never")):
        if key in kept:
            kept[key] = never
    return kept


def _prepends(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "Prepend"


def _shown(text: bytes) -> str:
    whole = text.decode(errors="replace")
    return repr(whole if len(whole) <= 40 else whole[:40] + "…")
