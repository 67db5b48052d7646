"""The bundled language model: a small decoder, trained from scratch, with tokens of its own.

A transformer decoder (Vaswani et al. 2017, arXiv 1706.03762; norms before each part, as Radford et al. 2019)
of a few layers. Beside each token's vector there are vectors of the n-grams that end there, found by a hash:
they hold most of the parameters and cost next to no time, which suits a party with little text and no
accelerator (hashed n-grams of bytes: Pagnoni et al. 2024, "Byte Latent Transformer", arXiv 2412.09871,
section 3.2.1).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.errors import InputError
from fedkt.language.tokenizers import BYTES, Merges, Tokenizer, learned
from fedkt.models.decoders.speaker import Voice
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

_PRIME = 0x9E3779B1
"""Knuth's multiplicative hashing."""


@takes("tokens")
def lm(
    input: "InputSpec",
    classes: int,
    *,
    tokens: int = 512,
    tokenizer: Literal["own", "public"] = "own",
    width: int = 64,
    layers: int = 1,
    heads: int = 2,
    grams: Sequence[int] = (2, 3, 4),
    hashes: int = 4096,
) -> nn.Module:
    """A small decoder for ``data.task: language``.

    ``tokens``: of its tokenizer, 256 for single bytes, else learned of its own and the public text, or of the
    ``public`` text alone; ``grams``: the lengths of n-grams that have vectors, ``hashes`` of each length.
    """
    problems = [
        f"{name} of model 'lm' is {value!r}; it must be an integer of at least {least}."
        for name, value, least in (
            ("tokens", tokens, len(BYTES)),
            ("width", width, 1),
            ("layers", layers, 1),
            ("heads", heads, 1),
            ("hashes", hashes, 1),
        )
        if type(value) is not int or value < least
    ]
    if not problems and width % heads:
        problems.append(f"width of model 'lm' is {width}; it must be a multiple of heads, {heads}.")
    if tokenizer not in ("own", "public"):
        problems.append(f"tokenizer of model 'lm' is {tokenizer!r}; it must be own or public.")
    if not isinstance(grams, list | tuple) or not all(type(n) is int and n >= 2 for n in grams):
        problems.append(f"grams of model 'lm' is {grams!r}; it must be a list of integers of at least 2.")
    if input.kind != "tokens" or classes != 2:
        problems.append("model 'lm' reads text; data.task must be language.")
    if problems:
        raise InputError(*problems)
    length = input.shape[0]
    return Voice(Decoder(tokens, length + 1, width, layers, heads, grams, hashes, tokenizer == "own"), length)


class Decoder(nn.Module):
    """A :class:`~fedkt.language.LanguageModel`: bytes, merges, and a start that stands for none.

    Its tokens are part of its state: ``merges`` int64 [tokens - 256, 2], -1 where there are fewer.
    """

    merges: Tensor

    def __init__(
        self, tokens: int, context: int, width: int, layers: int, heads: int, grams: Sequence[int],
        hashes: int, private: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.context, self.start = context, tokens
        self.grams, self.hashes = tuple(grams), hashes
        self.tokens_of_own_text = private and tokens > len(BYTES)
        """Whether its tokens tell of the client's own text."""
        self.register_buffer("merges", torch.full((tokens - len(BYTES), 2), -1))
        self.token = nn.Embedding(tokens + 1, width)
        self.place = nn.Embedding(context, width)
        self.gram = nn.ModuleList(nn.Embedding(hashes, width) for _ in self.grams)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, tokens + 1)
        for embedding in (self.token, self.place, *self.gram):
            nn.init.normal_(embedding.weight, std=0.05)

    def learn(self, own: Sequence[bytes], common: Sequence[bytes]) -> None:
        """Learn the tokens, of texts that are the party's own and of those that all have."""
        if self.merges.shape[0]:
            texts = (*own, *common) if self.tokens_of_own_text else tuple(common)
            found = _learned(texts, len(BYTES) + self.merges.shape[0])
            self.merges.fill_(-1)
            self.merges[: len(found)] = torch.tensor(found).reshape(-1, 2)

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return _tokenizer(self.merges.cpu().numpy().tobytes())

    @property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes of each token; ``b""`` of those that were not learned, and of the start."""
        held = self.tokenizer.token_bytes
        return _padded(held, self.start + 1)

    def encode(self, text: bytes) -> list[int]:
        """Return the ids of a text."""
        return self.tokenizer.encode(text)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits [b, t, V] of ids int64 [b, t]."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        mixed, before = ids, ids
        for n in range(2, max(self.grams, default=1) + 1):
            before = F.pad(before, (1, 0), value=self.start)[:, :-1]
            mixed = (mixed * _PRIME + before + n) & 0x7FFFFFFF
            if n in self.grams:
                x = x + self.gram[self.grams.index(n)]((mixed >> 7) % self.hashes)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.out(self.norm(x))
        return logits


class Layer(nn.Module):
    """Causal attention, then two dense layers, each added to what it was given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.asked(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attended(seen.transpose(1, 2).flatten(2))
        dense: Tensor = self.narrow(F.gelu(self.wide(self.before_dense(x))))
        return x + dense


@lru_cache(maxsize=32)
def _learned(texts: tuple[bytes, ...], size: int) -> Merges:
    return learned(texts, size)


@lru_cache(maxsize=64)
def _tokenizer(merges: bytes) -> Tokenizer:
    pairs = (
        torch.frombuffer(bytearray(merges), dtype=torch.int64).view(-1, 2) if merges else torch.zeros(0, 2)
    )
    return Tokenizer(tuple((int(a), int(b)) for a, b in pairs.tolist() if a >= 0))


@lru_cache(maxsize=64)
def _padded(token_bytes: tuple[bytes, ...], size: int) -> tuple[bytes, ...]:
    return token_bytes + (b"",) * (size - len(token_bytes))
