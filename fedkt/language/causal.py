"""What a language model is to all else here: a tokenizer and a causal net, whoever made them.

Text is bytes. A token stands for bytes; special tokens stand for none. Two models can only be compared by
what they say of the text itself, so nothing outside a model speaks of its token ids.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedkt.errors import InputError


@runtime_checkable
class LanguageModel(Protocol):
    """A tokenizer and a causal net.

    ``token_bytes``: the bytes of each token id, ``b""`` of special ones, so its length is the number V of
    outputs; ``context``: the most tokens, ``start`` among them, that the net reads at once; ``start``: the id
    of a special token that stands before each text, so that the first token is predicted as the others are.
    """

    @property
    def token_bytes(self) -> Sequence[bytes]: ...

    @property
    def context(self) -> int: ...

    @property
    def start(self) -> int: ...

    def encode(self, text: bytes) -> list[int]:
        """Return the ids of a text, without ``start``; their bytes, joined, are the text."""
        ...

    def __call__(self, ids: Tensor) -> Tensor:
        """Return logits float [b, t, V] of ids int64 [b, t]: those at i are of the token that follows i."""
        ...


def tokenised(model: LanguageModel, text: bytes) -> list[int]:
    """Return the ids of a text, ``start`` first, and make sure that they stand for it.

    Raises InputError where the tokenizer loses bytes, and where the text has more tokens than the model
    reads.

    >>> class Letters:
    ...     token_bytes, context, start = [b"a", b"b", b""], 4, 2
    ...     def encode(self, text):
    ...         return [b"ab".index(byte) for byte in text if byte in b"ab"]
    >>> tokenised(Letters(), b"ab")
    [2, 0, 1]
    >>> tokenised(Letters(), b"a-b")
    Traceback (most recent call last):
    fedkt.errors.InputError: the tokenizer cannot round-trip the text: byte 1 is 0x2d but comes back as 0x62.
    """
    ids = list(model.encode(text))
    back = b"".join(model.token_bytes[i] for i in ids)
    if back != text:
        at = next(
            (i for i, (one, two) in enumerate(zip(text, back, strict=False)) if one != two),
            min(len(text), len(back)),
        )
        was, now = (f"0x{part[at]:02x}" if at < len(part) else "the end" for part in (text, back))
        raise InputError(
            f"the tokenizer cannot round-trip the text: byte {at} is {was} but comes back as {now}."
        )
    if len(ids) + 1 > model.context:
        raise InputError(
            f"a passage of {len(text)} bytes has {len(ids)} tokens, but the model reads at most "
            f"{model.context - 1}; data.speech.passage must be shorter."
        )
    return [model.start, *ids]


@torch.no_grad()
def token_log_probs(model: LanguageModel, ids: Tensor) -> Tensor:
    """Return log-probabilities float [b, t, V] of the token that follows each of ``ids`` [b, t].

    Special tokens cannot follow: theirs is minus infinity, and the others sum to one.
    """
    special = torch.tensor([not held for held in model.token_bytes], device=ids.device)
    return model(ids).masked_fill(special, -torch.inf).log_softmax(-1)
