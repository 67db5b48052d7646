"""A text that goes on as a language model thinks it would, token by token, or as several do, byte by byte."""

from typing import Any

import torch
from torch import Tensor

from fedkt.errors import InputError
from fedkt.language.causal import LanguageModel, token_log_probs
from fedkt.language.following import NextByte


@torch.no_grad()
def written(
    model: LanguageModel | Any, prompt: bytes, length: int, temperature: float, draws: torch.Generator
) -> bytes:
    """Return what follows a prompt: at least ``length`` bytes, up to the end of the token that reaches them.

    ``temperature``: 0 takes the likeliest token each time, 1 draws as the model believes, above 1 more
    evenly. Of a text longer than the model reads its end is read. Raises InputError where the tokenizer loses
    bytes of the prompt.

    >>> class Ab:
    ...     token_bytes, context, start = [b"a", b"b", b""], 8, 2
    ...     def encode(self, text):
    ...         return [b"ab".index(byte) for byte in text]
    ...     def __call__(self, ids):  # after a comes b, after all else a
    ...         return torch.nn.functional.one_hot((ids == 0).long(), 3).float()
    >>> written(Ab(), b"ab", 5, 0.0, torch.Generator())
    b'ababa'
    """
    ids = list(model.encode(prompt))
    if b"".join(model.token_bytes[i] for i in ids) != prompt:
        raise InputError(f"the prompt {prompt[:40]!r} holds bytes that the model's tokenizer loses.")
    text, token_bytes = b"", model.token_bytes
    while len(text) < length:
        read = torch.tensor([[model.start, *ids][-model.context :]])
        token = _drawn(token_log_probs(model, read)[0, -1], temperature, draws)
        ids.append(token)
        text += token_bytes[token]
    return text


def written_by_bytes(
    next_byte: NextByte, prompt: bytes, length: int, temperature: float, draws: torch.Generator
) -> bytes:
    """Return the ``length`` bytes that follow a prompt, each drawn of what is believed of the next one.

    ``temperature``: as :func:`written` has it.

    >>> after = lambda text: torch.eye(256)[ord("b") if text.endswith(b"a") else ord("a")]
    >>> written_by_bytes(after, b"ab", 5, 1.0, torch.Generator())
    b'ababa'
    """
    text = b""
    while len(text) < length:
        text += bytes([_drawn(next_byte(prompt + text).log(), temperature, draws)])
    return text


def _drawn(log_p: Tensor, temperature: float, draws: torch.Generator) -> int:
    if temperature == 0:
        return int(log_p.argmax())
    return int(torch.multinomial((log_p / temperature).softmax(-1), 1, generator=draws))
