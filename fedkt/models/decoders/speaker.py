"""A language model as a client's model: rows of bytes in, what they cost and beliefs about the next byte out.

A row is a passage, int64 [L] as :func:`fedkt.data.columns.tokens.passages` makes it, and may be followed by
places of the passage that are asked about: 1 + the number of a byte, minus (1 + the number of a word), 0 for
none. Its tokens do not depend on weights, so rows are *prepared* once: int32 rows that hold tokens, and where
among them the places are.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.data.columns.tokens import text_of
from fedkt.language.causal import LanguageModel, tokenised
from fedkt.language.marginals import LEAST, Continuations, next_byte, places
from fedkt.language.spans import tokens_of, words_of
from fedkt.language.tokenizers import BYTES
from fedkt.language.topk import places_of
from fedkt.tasks.language import GUESSES

if TYPE_CHECKING:
    from fedkt.data import Federation
    from fedkt.data.federation import Shard

AT_ONCE = 16
"""Passages predicted together where nothing is learned: the logits of more take much memory."""
MOST_TEXTS = 50_000
"""Texts of which a process remembers the tokens; when there are more, it begins anew."""


class Speaker(nn.Module):
    """The features of a client's model: [B, 2 + 256 · places] of rows.

    The nats that the passage costs; how many of its guesses are right (0 while it learns); the
    log-probabilities of each byte at each place that is asked about (0 where none is), or in place of that of
    byte 0 the word's (0 where tokens reach over its edge). ``decoder``: a module
    that is a :class:`~fedkt.language.LanguageModel`, where it learns its tokens with a method ``learn(own,
    common)`` of texts; ``length``: bytes of a passage, at most.
    """

    def __init__(self, decoder: nn.Module, length: int) -> None:
        super().__init__()
        self.decoder: Any = decoder
        self.length = length
        self._tables: Tables | None = None
        """Of the tokenizer that prepared rows last: buffers cannot be read under ``torch.func``."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x if x.dtype == torch.int32 else self.prepared(x)
        if torch.is_grad_enabled() or len(rows) <= AT_ONCE:
            return self._features(rows)
        return torch.cat([self._features(part) for part in rows.split(AT_ONCE)])

    def prepared(self, x: Tensor) -> Tensor:
        """Return rows int32 [n, 2 L + ...] of rows int64 [n, L + places]; other rows are prepared already.

        They hold tokens [L], -1 behind the last; then of each place that is guessed, and of each that is
        asked about, its token and its state (:mod:`fedkt.language.marginals`), of a word its first token and
        -1 less than the number of the one behind it, -1 for none; then the bytes that stand where is guessed.
        Raises InputError where the tokenizer loses bytes.
        """
        if x.dtype == torch.int32:
            return x
        self._tables = tables = tables_of(tuple(self.decoder.token_bytes))
        passages, asked = x[:, : self.length].cpu(), x[:, self.length :].cpu() - 1
        tokens = np.full((len(x), self.length), -1, np.int32)
        where = np.full((len(x), self.length + 1, 2), -1, np.int32)  # the last row stands for no place
        words = torch.full((*asked.shape, 2), -1)
        for row, passage in enumerate(passages.numpy()):
            text = text_of(passage)
            ids, at = tables.read(self.decoder, text)
            tokens[row, : len(ids)] = ids
            where[row, : len(at)] = at
            if (asked[row] < -1).any():
                reached = tokens_of(words_of(text), at, len(ids))
                for place, number in enumerate((-2 - asked[row]).tolist()):
                    if number >= 0 and (found := reached[number]) is not None:
                        words[row, place] = torch.tensor([found[0], -1 - found[1]])
        guessed = places_of((passages > 0).sum(1), GUESSES)
        every = torch.cat([guessed, asked], 1)
        index = torch.where(every >= 0, every, self.length)[..., None].expand(-1, -1, 2)
        found = torch.from_numpy(where).gather(1, index)
        found[:, GUESSES:] = torch.where((asked < -1)[..., None], words.to(found), found[:, GUESSES:])
        there = torch.where(guessed >= 0, passages.gather(1, guessed.clamp(min=0)) - 1, -1)
        parts = [torch.from_numpy(tokens), found.flatten(1), there.to(torch.int32)]
        return torch.cat(parts, 1).to(x.device)

    def _features(self, rows: Tensor) -> Tensor:
        sizes = [self.length, rows.shape[1] - self.length - GUESSES, GUESSES]
        tokens, at, there = rows.long().split(sizes, 1)
        tokens, at = _trimmed(tokens), at.unflatten(1, (-1, 2))
        tables = self._tables
        assert tables is not None
        first = torch.full_like(tokens[:, :1], self.decoder.start)
        logits = self.decoder(torch.cat([first, tokens[:, :-1].clamp(min=0)], 1))
        logits = logits.masked_fill(tables.special.to(logits.device), -torch.inf)
        costs = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=-1, reduction="none")
        costs = costs.view(tokens.shape)
        nats = costs.sum(1)
        right = torch.zeros_like(nats)
        if not self.training:
            guess = tables.next_bytes(logits, at[:, :GUESSES]).argmax(-1)
            right = ((guess == there) & (there >= 0)).sum(1).to(nats.dtype)
        both, asked = torch.stack([nats, right], 1), at[:, GUESSES:]
        if not asked.shape[1]:
            return both
        if (asked[..., 1] < -1).any():
            return torch.cat([both, _of_words(costs, asked)], 1)
        some = (asked[..., 0] >= 0).any(1).nonzero()[:, 0]
        beliefs = tables.next_bytes(logits[some], asked[some]).clamp(min=LEAST).log().to(both.dtype)
        beliefs = (beliefs * (asked[some, :, :1] >= 0)).flatten(1)
        answers = both.new_zeros(len(rows), beliefs.shape[1]).index_copy(0, some, beliefs)
        return torch.cat([both, answers], 1)


def _of_words(costs: Tensor, asked: Tensor) -> Tensor:
    """Return in place of what is believed of bytes [b, 256 · places] the log-probabilities of words, of what
    tokens cost [b, t], and which they are [b, places, 2]."""
    there = asked[..., 1] < -1
    running = F.pad(costs.cumsum(1), (1, 0))
    first, last = asked[..., 0].clamp(min=0), (-1 - asked[..., 1]).clamp(min=0)
    found = (running.gather(1, first) - running.gather(1, last)) * there
    return F.pad(found[..., None], (0, len(BYTES) - 1)).flatten(1)


def begin(features: nn.Module, federation: "Federation", shard: "Shard") -> None:
    """Let a model that learns its tokens do so, of a client's own text and of that which all have."""
    if isinstance(features, Speaker) and (learn := getattr(features.decoder, "learn", None)) is not None:
        common = [] if federation.transfer is None else federation.transfer.x
        learn(*([text_of(row) for row in rows] for rows in (federation.pool.x[shard.rows], common)))


class Voice(nn.Module):
    """A client's model of text: a :class:`Speaker`, whose features are its outputs."""

    def __init__(self, decoder: nn.Module, length: int) -> None:
        super().__init__()
        self.features = Speaker(decoder, length)
        self.head = nn.Identity()


def _trimmed(tokens: Tensor) -> Tensor:
    """Cut columns [b, L] in which no row has a token; not under ``torch.func``, which lets nobody look."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tokens):
        return tokens
    return tokens[:, : max(1, int((tokens >= 0).any(0).sum()))]


class Tables:
    """What follows from the bytes of a tokenizer's tokens, and the texts that it has read."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self.token_bytes = token_bytes
        self.known = Continuations(token_bytes)
        self.special = torch.tensor([not held for held in token_bytes])
        self._plain = self.known.single and tuple(token_bytes[: len(BYTES)]) == BYTES
        self._read: dict[bytes, tuple[list[int], NDArray[np.int64]]] = {}

    def read(self, model: LanguageModel, text: bytes) -> tuple[list[int], NDArray[np.int64]]:
        """Return a text's ids, without ``start``, and token and state of each of its bytes [bytes, 2]."""
        if text not in self._read:
            if len(self._read) >= MOST_TEXTS:
                self._read.clear()
            ids = tokenised(model, text)[1:]
            self._read[text] = ids, places(self.token_bytes, ids, self.known)
        return self._read[text]

    def next_bytes(self, logits: Tensor, at: Tensor) -> Tensor:
        """Return the distributions over the next byte [b, places, 256] of logits [b, t, V] at places [b,
        places, 2]."""
        at = at.clamp(min=0)
        chosen = logits.gather(1, at[..., :1].expand(-1, -1, logits.shape[-1])).softmax(-1)
        if self._plain:
            return chosen[..., : len(BYTES)]
        order, edges = (part.to(chosen.device) for part in (self.known.order, self.known.edges))
        return next_byte(chosen, order, edges[at[..., 1]])


@lru_cache(maxsize=64)
def tables_of(token_bytes: tuple[bytes, ...]) -> Tables:
    """Return what follows from the bytes of a tokenizer's tokens; computed once per process."""
    return Tables(token_bytes)
