"""What of a passage models are compared by (``data.speech.compare``): next bytes, words, or tokens' strings.

Each way says what a model is asked, what of its answer is believed, how little of that crosses the wire, and
what a receiver makes of it. Beliefs at a place are a distribution: over 256 bytes, over a word and anything
else, or over 256 + K cells (:mod:`fedkt.language.strings`), of which the last K go with strings.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedkt.knowledge.top_logits import FAINTEST
from fedkt.language import questions, spans, strings, topk
from fedkt.language.topk import BYTES, places_of

Said = Mapping[str, Tensor]
"""``values`` [..., D], and where these are cells ``strings`` int64 [..., K] of the last K of them."""
Fitted = tuple[Tensor, Tensor]
NOTHING = -60.0
"""Log-probability of a cell that is none; e to that at most of anything is lost."""


@dataclass(frozen=True)
class Compared(ABC):
    """A way to compare models at ``places`` of a passage, where ``top`` of each are named."""

    top: int
    places: int

    @property
    def named(self) -> int:
        """Strings that are named at a place."""
        return 0

    @abstractmethod
    def asked(self, texts: Sequence[bytes], told: Tensor | None = None) -> Tensor:
        """Return the columns that ask about texts [n, ...] (:mod:`fedkt.language.questions`).

        ``told`` int64 [n, places, K]: the strings of which a teacher speaks, where it does.
        """

    @abstractmethod
    def believed(self, answers: Tensor) -> Said:
        """Return the log-probabilities that a model answered, of its answers [n, places, ...]."""

    @abstractmethod
    def spoken(self, beliefs: Tensor) -> Tensor:
        """Return at which places [...] a model says something, of its log-probabilities [..., D]."""

    def fitted(
        self, target: Tensor, known: Tensor, batch: Said, beliefs: Tensor, temperature: float
    ) -> Fitted:
        """Return a teacher's logits [b, places, D] as a student can compare them, and where it can [b,
        places].

        ``known``: where the teacher says something; ``batch``: the rows, with the teacher's ``strings``;
        ``beliefs``: the student's.
        """
        return target, known

    @abstractmethod
    def said(self, beliefs: Said) -> dict[str, Tensor]:
        """Return the arrays of :class:`~fedkt.knowledge.TopLogits` that say these; zeros say nothing."""

    @abstractmethod
    def heard(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the beliefs that :meth:`said` has made arrays of; zeros where nothing was said."""

    def together(self, said: Said) -> dict[str, Tensor]:
        """Return what clients said [clients, n, ...] as distributions over the same events."""
        return dict(said)

    def next_bytes(self, said: Said) -> Tensor:
        """Return the distributions over the next byte that beliefs imply. Of words there is none."""
        return said["values"]


class NextBytes(Compared):
    """Beliefs about the byte at each place."""

    def asked(self, texts: Sequence[bytes], told: Tensor | None = None) -> Tensor:
        """Ask about bytes, spread evenly."""
        return questions.of_bytes(self._places(texts))

    def _places(self, texts: Sequence[bytes]) -> Tensor:
        return places_of(torch.tensor([len(text) for text in texts]), self.places)

    def believed(self, answers: Tensor) -> Said:
        """All of an answer."""
        return {"values": answers}

    def spoken(self, beliefs: Tensor) -> Tensor:
        """Elsewhere log-probabilities are 0."""
        return beliefs[..., :BYTES].exp().sum(-1) < 2

    def said(self, beliefs: Said) -> dict[str, Tensor]:
        """Name the likeliest bytes."""
        tokens, codes = topk.said(beliefs["values"], self.top)
        return {"tokens": tokens, "codes": codes}

    def heard(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return distributions over bytes."""
        return {"values": topk.heard(arrays["tokens"], arrays["codes"])}


class Spans(Compared):
    """How likely each word is found; ``top`` is 1."""

    def asked(self, texts: Sequence[bytes], told: Tensor | None = None) -> Tensor:
        """Ask about words, spread evenly."""
        words = torch.tensor([len(spans.words_of(text)) for text in texts])
        return questions.of_words(places_of(words, self.places))

    def believed(self, answers: Tensor) -> Said:
        """The word and anything else: the word's stands in place of byte 0."""
        return {"values": spans.both(answers[..., 0])}

    def spoken(self, beliefs: Tensor) -> Tensor:
        """Elsewhere a span is certain."""
        return beliefs[..., 0] < -spans.LEAST

    def fitted(
        self, target: Tensor, known: Tensor, batch: Said, beliefs: Tensor, temperature: float
    ) -> Fitted:
        """A student has no say where its tokens reach over an edge."""
        return target, known * self.spoken(beliefs)

    def said(self, beliefs: Said) -> dict[str, Tensor]:
        """Say a word and anything else."""
        tokens, codes = spans.said(beliefs["values"])
        return {"tokens": tokens, "codes": codes}

    def heard(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return distributions over a word and anything else."""
        return {"values": spans.heard(arrays["codes"])}


class Strings(NextBytes):
    """Beliefs about the byte at each place, and where a token begins about the ``top`` likeliest tokens."""

    @property
    def named(self) -> int:
        """As many as bytes."""
        return self.top

    def asked(self, texts: Sequence[bytes], told: Tensor | None = None) -> Tensor:
        """Ask about bytes, and either to name tokens or about the strings that a teacher named."""
        return questions.of_bytes(self._places(texts), told, 0 if told is not None else self.named)

    def believed(self, answers: Tensor) -> Said:
        """Cells; where the model named tokens their strings, too. What it has no token for is nothing."""
        found, spelled = answers[..., : BYTES + self.named], answers[..., BYTES + self.named :]
        none = (found == 0) & (torch.arange(found.shape[-1], device=found.device) >= BYTES)
        cells = {"values": found.masked_fill(none, NOTHING)}
        if spelled.shape[-1]:
            cells["strings"] = strings.joined(spelled.unflatten(-1, (self.named, -1)))
        return cells

    def fitted(
        self, target: Tensor, known: Tensor, batch: Said, beliefs: Tensor, temperature: float
    ) -> Fitted:
        """Fold what the student has no token for."""
        there = beliefs[..., BYTES:] > NOTHING
        found = strings.folded((target / temperature).softmax(-1), batch["strings"], there)
        none = torch.nn.functional.pad(~there, (BYTES, 0))
        found = found.clamp(min=torch.finfo(found.dtype).tiny).log() * temperature
        return found.masked_fill(none, NOTHING * temperature), known

    def said(self, beliefs: Said) -> dict[str, Tensor]:
        """Name the likeliest next bytes and the strings."""
        values, held = beliefs["values"], beliefs["strings"]
        cells, of_strings = values[..., :BYTES], values[..., BYTES:] * (held > 0)
        tokens = strings.next_bytes(values, held).topk(self.top, -1).indices
        likely, order = cells.gather(-1, tokens).sort(-1, descending=True)
        more, place = of_strings.sort(-1, descending=True)
        total = cells.sum(-1, keepdim=True, dtype=torch.float64) + of_strings.sum(-1, keepdim=True)
        return {
            "tokens": tokens.gather(-1, order).to(torch.uint8),
            "codes": topk.coded(torch.cat([likely, more], -1), total),
            "strings": held.gather(-1, place) * (more > 0),
        }

    def heard(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return cells; the rest goes to bytes that are not named, as where only bytes are."""
        tokens, codes, held = arrays["tokens"].long(), arrays["codes"], arrays["strings"]
        spoken = codes[..., :1] < FAINTEST
        parts = topk.decoded(codes)
        likely, more, rest = parts.split([self.top, self.named, 1], -1)
        more = more * (held > 0)
        first = strings.parents(held, torch.zeros_like(held, dtype=torch.bool))
        begun = likely.new_zeros(*likely.shape[:-1], BYTES).scatter_add(-1, first, more).gather(-1, tokens)
        found = topk.spread(tokens, likely + begun, rest, spoken).scatter(-1, tokens, likely)
        cells = torch.cat([found, more], -1)
        return {"values": cells * (spoken / cells.sum(-1, keepdim=True)), "strings": held}

    def together(self, said: Said) -> dict[str, Tensor]:
        """Name the same strings at a place, whoever speaks."""
        values, common = strings.united(said["values"], said["strings"])
        return {"values": values, "strings": common.expand(len(values), -1, -1)}

    def next_bytes(self, said: Said) -> Tensor:
        """Fold all strings."""
        return strings.next_bytes(said["values"], said["strings"])


WAYS: Mapping[str, type[Compared]] = {"bytes": NextBytes, "spans": Spans, "tokens": Strings}


def compared_by(settings: Mapping[str, Any]) -> Compared:
    """Return the way that settings ``compare``, ``top`` and ``places`` of a client half name.

    >>> type(compared_by({"compare": "spans", "top": 1, "places": 80})).__name__
    'Spans'
    """
    return WAYS[settings["compare"]](settings["top"], settings["places"])
