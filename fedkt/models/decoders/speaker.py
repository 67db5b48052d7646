"""A language model as a client's model: rows of bytes in, what they cost and beliefs about the next byte out.

A row is a passage, int64 [L] as :func:`fedkt.data.columns.tokens.passages` makes it, and may be followed by
what is asked about it (:mod:`fedkt.language.questions`). Its tokens do not depend on weights, so rows are
*prepared* once: int32 rows that hold tokens, where among them the places are, and which of them stand for the
strings that the model is told of.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.data.columns.tokens import text_of
from fedkt.language.causal import LanguageModel, tokenised
from fedkt.language.marginals import LEAST, Continuations, next_byte, places, running
from fedkt.language.questions import read
from fedkt.language.spans import tokens_of, words_of
from fedkt.language.strings import Namable, cells, parents, spelled
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
SURE = 1e-7
"""What is left to all else of a string that is certain: 0 is the logarithm of one that is not compared."""


class Speaker(nn.Module):
    """The features of a client's model: [B, 2 + (256 + more) · places] of rows.

    The nats that the passage costs; how many of its guesses are right (0 while it learns); the
    log-probabilities of each byte at each place that is asked about (0 where none is), or in place of that of
    byte 0 the word's (0 where tokens reach over its edge). Where the model is told of strings, or is to name
    tokens, they are of cells (:mod:`fedkt.language.strings`): of bytes, then of strings (0 where it has no
    token for one that begins there); of those that it named follow lengths and bytes, 8 numbers each.
    ``decoder``: a module that is a :class:`~fedkt.language.LanguageModel`, where it learns its tokens with a
    method ``learn(own, common)`` of texts; ``length``: bytes of a passage, at most.
    """

    def __init__(self, decoder: nn.Module, length: int) -> None:
        super().__init__()
        self.decoder: Any = decoder
        self.length = length
        self._tables: Tables | None = None
        """Of the tokenizer that prepared rows last: buffers cannot be read under ``torch.func``."""
        self._forms: dict[int, tuple[int, int, int]] = {}
        """Places, strings told and tokens to be named at each, of prepared rows by their width."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x if x.dtype == torch.int32 else self.prepared(x)
        if torch.is_grad_enabled() or len(rows) <= AT_ONCE:
            return self._features(rows)
        return torch.cat([self._features(part) for part in rows.split(AT_ONCE)])

    def prepared(self, x: Tensor) -> Tensor:
        """Return rows int32 [n, 2 L + ...] of rows int64 [n, L + ...]; other rows are prepared already.

        They hold tokens [L], -1 behind the last; then of each place that is guessed, and of each that is
        asked about, its token and its state (:mod:`fedkt.language.marginals`), of a word its first token and
        -1 less than the number of the one behind it, -1 for none; then the bytes that stand where is guessed;
        then of each string its tokens' edges and where it is folded, -1 where it is not compared. Raises
        InputError where the tokenizer loses bytes.
        """
        if x.dtype == torch.int32:
            return x
        self._tables = tables = tables_of(tuple(self.decoder.token_bytes))
        passages, asked = x[:, : self.length].cpu(), read(x[:, self.length :].cpu())
        tokens = np.full((len(x), self.length), -1, np.int32)
        where = np.full((len(x), self.length + 1, 2), -1, np.int32)  # the last row stands for no place
        words = torch.full((*asked.at.shape, 2), -1)
        for row, passage in enumerate(passages.numpy()):
            text = text_of(passage)
            ids, at = tables.read(self.decoder, text)
            tokens[row, : len(ids)] = ids
            where[row, : len(at)] = at
            if (asked.at[row] < -1).any():
                reached = tokens_of(words_of(text), at, len(ids))
                for place, number in enumerate((-2 - asked.at[row]).tolist()):
                    if number >= 0 and (found := reached[number]) is not None:
                        words[row, place] = torch.tensor([found[0], -1 - found[1]])
        guessed = places_of((passages > 0).sum(1), GUESSES)
        every = torch.cat([guessed, asked.at], 1)
        index = torch.where(every >= 0, every, self.length)[..., None].expand(-1, -1, 2)
        found = torch.from_numpy(where).gather(1, index)
        found[:, GUESSES:] = torch.where((asked.at < -1)[..., None], words.to(found), found[:, GUESSES:])
        there = torch.where(guessed >= 0, passages.gather(1, guessed.clamp(min=0)) - 1, -1)
        told = tables.compared(asked.strings, found[:, GUESSES:]).to(torch.int32)
        parts = [torch.from_numpy(tokens), found.flatten(1), there.to(torch.int32), told.flatten(1)]
        rows = torch.cat(parts, 1)
        self._forms[rows.shape[1]] = asked.form
        return rows.to(x.device)

    def _features(self, rows: Tensor) -> Tensor:
        many, strings, named = self._forms[rows.shape[1]]
        sizes = [self.length, 2 * (GUESSES + many), GUESSES, 3 * many * strings]
        tokens, at, there, told = rows.long().split(sizes, 1)
        tokens, at, told = (
            _trimmed(tokens),
            at.unflatten(1, (-1, 2)),
            told.reshape(len(rows), many, strings, 3),
        )
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
        if not many:
            return both
        if (asked[..., 1] < -1).any():
            return torch.cat([both, _of_words(costs, asked)], 1)
        some = (asked[..., 0] >= 0).any(1).nonzero()[:, 0]
        if strings or named:
            beliefs = tables.cells(logits[some], asked[some], told[some], named)
        else:
            beliefs = tables.next_bytes(logits[some], asked[some]).clamp(min=LEAST).log()
        beliefs = (beliefs.to(both.dtype) * (asked[some, :, :1] >= 0)).flatten(1)
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

    @cached_property
    def namable(self) -> Namable:
        """The strings that can be named."""
        return Namable(self.token_bytes, self.known)

    def compared(self, strings: Tensor, at: Tensor) -> Tensor:
        """Return how strings [n, places, K] are compared at places [n, places, 2]: edges, and where they are
        folded, int64 [n, places, K, 3]; -1 where they are not."""
        if not strings.shape[-1]:
            return strings.new_zeros(*strings.shape, 3)
        edges = self.namable.found(strings)
        there = (edges[..., 0] >= 0) & _begins(at)[..., None]
        return torch.cat([edges, parents(strings, there)[..., None]], -1).where(
            there[..., None], torch.tensor(-1)
        )

    def next_bytes(self, logits: Tensor, at: Tensor) -> Tensor:
        """Return the distributions over the next byte [b, places, 256] of logits [b, t, V] at places [b,
        places, 2]."""
        chosen = _at(logits, at)
        if self._plain:
            return chosen[..., : len(BYTES)]
        return next_byte(running(chosen, self.known.order.to(chosen.device)), self._edges(at))

    def cells(self, logits: Tensor, at: Tensor, told: Tensor, named: int) -> Tensor:
        """Return log-probabilities of cells [b, places, 256 + K], 0 where a string is not compared.

        ``told`` [b, places, K, 3]: the strings, as :meth:`compared` has them; or where ``named``, they are
        the likeliest tokens that begin at each place, and follow as :func:`fedkt.language.strings.spelled`.
        """
        chosen = _at(logits, at)
        sums = running(chosen, self.known.order.to(chosen.device))
        spelling: list[Tensor] = []
        if named:
            can = self.namable.strings.to(chosen.device)
            likely, ids = (chosen * (can > 0)).topk(min(named, len(can)), -1)
            short = (0, named - ids.shape[-1])
            strings = F.pad(can[ids] * ((likely > 0) & _begins(at)[..., None]), short)
            edges = F.pad(self.namable.edges.to(chosen.device)[ids], (0, 0, *short))
            above = parents(strings, strings > 0)
            told = torch.cat([edges, above[..., None]], -1).where((strings > 0)[..., None], -1)
            spelling = [spelled(strings).to(sums.dtype).flatten(-2)]
        there = told[..., 0] >= 0
        first, last, above = told.clamp(min=0).unbind(-1)
        begun = (sums.gather(-1, last) - sums.gather(-1, first)) / sums[..., -1:].clamp(min=LEAST)
        found = cells(next_byte(sums, self._edges(at)), begun * there, above).clamp(LEAST, 1 - SURE).log()
        compared = F.pad(there, (len(BYTES), 0), value=True)
        return torch.cat([found * compared, *spelling], -1)

    def _edges(self, at: Tensor) -> Tensor:
        return self.known.edges.to(at.device)[at[..., 1].clamp(min=0)]


def _at(logits: Tensor, at: Tensor) -> Tensor:
    """Return the distributions over tokens [b, places, V] of logits [b, t, V] at places [b, places, 2]."""
    token = at[..., :1].clamp(min=0).expand(-1, -1, logits.shape[-1])
    return logits.gather(1, token).softmax(-1)


def _begins(at: Tensor) -> Tensor:
    """Return whether a token begins at places [..., 2]."""
    return (at[..., 0] >= 0) & (at[..., 1] == 0)


@lru_cache(maxsize=64)
def tables_of(token_bytes: tuple[bytes, ...]) -> Tables:
    """Return what follows from the bytes of a tokenizer's tokens; computed once per process."""
    return Tables(token_bytes)
