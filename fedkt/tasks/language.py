"""Text: the next token, beliefs about the next byte, bits per byte.

A row is a passage of bytes, and needs no label. A model's two outputs are what the passage costs it and how
often it guessed right; its targets are how many bytes and how many guesses there were.

*Bits per byte*, the leading figure, of which less is better, is the negative log2 of the probability that a
model gives a passage, over the passage's bytes. The probability is the product over its tokens, so it is that
of a code for the text, and no choice of tokens changes what is counted. *Next-byte accuracy* is how often the
likeliest next byte stands there, at :data:`GUESSES` places spread over a passage; inside a token of several
bytes a model knows that its token goes on (:mod:`fedkt.language.marginals`), so of it only models with one
tokenizer are compared.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.knowledge.contributions import Contributions
from fedkt.knowledge.top_logits import TopLogits
from fedkt.language.compared import compared_by
from fedkt.language.topk import BYTES
from fedkt.scenario.about_rows import Speech
from fedkt.tasks.task import (
    OTHER_TASKS,
    ColumnsTask,
    Figure,
    Figures,
    Floats,
    LabelNames,
    Metric,
    Misfit,
    Targets,
)

if TYPE_CHECKING:
    from fedkt.data.columns.choices import Choices
    from fedkt.scenario import Data, Scenario

GUESSES = 16
"""Places of each passage at which the next byte is guessed, spread evenly; fewer where it has fewer bytes."""
FAINT = 1e-6
"""Least probability in a mean of logarithms."""


@dataclass(frozen=True)
class Language(ColumnsTask):
    """``y`` float32 [n, 2]: the bytes of each passage, and how many are guessed; outputs [n, 2]: the nats
    that it costs, and how many guesses were right.

    >>> task = Language()
    >>> task.of_rows(np.array([[101, 102, 0], [101, 0, 0]])).tolist()
    [[2.0, 2.0], [1.0, 1.0]]
    >>> said, y = torch.tensor([[2.7726, 1.0], [1.3863, 0.0]]), torch.tensor([[2.0, 2.0], [1.0, 1.0]])
    >>> {name: round(value, 3) for name, value in task.measure(said, y, 2, None, None).items()}
    {'': 2.0, 'next_byte': 0.333}
    """

    name = "language"
    metric = Metric(
        "bits_per_byte",
        "bits per byte",
        share=False,
        higher_is_better=False,
        highest=None,
        beside=(Figure("next_byte", "next-byte accuracy"),),
    )
    answers = TopLogits
    grouped = "passage"
    bounded = False
    labelled = False
    writes = True
    losses = ("kl", "ce", "swing")
    defaults: ClassVar[Mapping[str, str]] = {"mae": "kl", "mse": "kl", "mse_prob": "kl"}
    behaviours: ClassVar[Mapping[str, str]] = {"logits": "language", "solo": "language_alone"}
    unfit = "what it fuses is one answer per row, or weights, and models of text have tokenizers of their own"
    misfits = (
        *(one for one in OTHER_TASKS if one.path != "privacy.mode"),
        Misfit(
            "privacy.mode",
            "what is sent of text are bytes and codes, which no such noise is for; dpsgd and vote_rr fit",
            ("proto_gauss", "logit_gauss", "central_gauss", "vote_gnmax"),
        ),
        Misfit("data.target", "it makes two classes"),
        Misfit("data.labels", "it names classes"),
        Misfit("data.label", "text needs none"),
        Misfit("data.public", "public text is the transfer set, which everybody trains on"),
        Misfit("clients.distill.weigh", "it compares rows as vectors"),
        Misfit("robust.filter", "it compares what is said of rows"),
        Misfit("server_model", "a server trains no model of text"),
    )

    def read(
        self, where: str, y: Any, choices: "Choices", names: Sequence[str] | None = None
    ) -> tuple[Targets, LabelNames | None]:
        """Raise TypeError: targets follow from the rows."""
        raise TypeError("text has no labels to read")

    def of_rows(self, x: Any) -> Targets:
        """Return how many bytes each passage has and how many are guessed [n, 2], of token rows [n, L]."""
        lengths = (np.asarray(x) > 0).sum(1)
        return np.stack([lengths, np.minimum(lengths, GUESSES)], 1).astype(np.float32)

    def told(self, data: "Data", *, private: bool) -> dict[str, Any]:
        """Return how much is said of each passage, and whether training takes public text: not where each of
        its steps has noise, which public text does not need."""
        speech = data.speech or Speech()
        told = {"places": speech.places, "compare": speech.compare, "public_text": not private}
        return told | {"top": 1 if speech.compare == "spans" else speech.top}

    def unsaid(self, scenario: "Scenario") -> list[str]:
        """Return that nothing but bytes can be voted on."""
        speech = scenario.data.speech
        if speech is None or speech.compare == "bytes" or scenario.privacy.mode != "vote_rr":
            return []
        return [
            f"data.speech.compare is {speech.compare}, but privacy mode vote_rr sends the likeliest byte of "
            "each place; it must be bytes."
        ]

    def about(self, outputs: int) -> str:
        """Return what is predicted."""
        return "the next byte of text"

    def lacking(self, y: Targets, outputs: int, names: LabelNames | None) -> list[str]:
        """Return whether all passages are empty."""
        return [] if y.any() else ["no passage has a byte; text must be given."]

    def strata(self, y: Targets, of: Targets) -> NDArray[np.int64]:
        """All passages are alike."""
        return np.zeros(len(y), np.int64)

    def groups(self, outputs: int) -> list[str]:
        """Return the one group."""
        return ["passage"]

    def frequencies(self, y: Targets, outputs: int) -> Floats:
        """Return zeros."""
        return np.zeros(outputs)

    def alternatives(self, outputs: int) -> int:
        """Return the number of bytes."""
        return BYTES

    def made(self, rows: int, outputs: int) -> Tensor:
        """Return ones."""
        return torch.ones(rows, outputs)

    def copies(self, y: Targets, x: Any) -> list[int]:
        """Text has no columns."""
        return []

    def row_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Nats per byte."""
        return logits[:, 0] / y[:, 0].clamp(min=1)

    def said(self, logits: Tensor, form: str, temperature: float) -> Tensor:
        """Return distributions over the next byte of log-probabilities [..., 256]."""
        return (logits / temperature).softmax(-1)

    def heard(self, values: Tensor, form: str, temperature: float) -> Tensor:
        """Return log-probabilities, times the temperature, of distributions over the next byte [..., 256]."""
        return temperature * values.clamp(min=FAINT).log()

    # What crosses the wire ------------------------------------------------------------------------------

    def opened(self, contributions: Contributions, settings: Mapping[str, Any]) -> Contributions:
        """Return contributions with ``values`` [clients, passages · places, D] in place of what was sent.

        D: 256 bytes, a word and anything else, or cells, with whose ``strings`` int64 [clients, passages ·
        places, K] (:mod:`fedkt.language.compared`). They are probabilities, or with ``form: logits`` their
        logarithms, so that a mean is a geometric one.
        """
        arrays = dict(contributions.arrays)
        if "codes" not in arrays:
            return contributions
        way = compared_by(settings)
        sent = {name: arrays.pop(name) for name in ("tokens", "codes", "strings") if name in arrays}
        each = [
            way.heard({name: its[i] for name, its in sent.items()}) for i in range(len(contributions.clients))
        ]
        said = way.together(
            {name: torch.stack([one[name] for one in each]).flatten(1, 2) for name in each[0]}
        )
        if settings["form"] == "logits":
            said["values"] = said["values"].clamp(min=FAINT).log()
        if "density" in arrays:
            arrays["density"] = arrays["density"].repeat_interleave(settings["places"], 1)
        return replace(contributions, arrays=arrays | said)

    def written(
        self, arrays: Mapping[str, Tensor], settings: Mapping[str, Any], beside: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return a teacher's arrays as they cross the wire: what says its ``values`` [passages · places, D]
        in their place."""
        if "values" not in arrays:
            return dict(arrays)
        rest = {name: array for name, array in arrays.items() if name != "values"}
        values = arrays["values"]
        values = values.exp() if settings["form"] == "logits" else values
        beliefs = {"values": self.normalised(values)}
        if "strings" in beside:
            beliefs["strings"] = beside["strings"][0]  # the same of all clients
        sent = compared_by(settings).said(beliefs)
        return {name: its.unflatten(-2, (-1, settings["places"])) for name, its in sent.items()} | rest

    def next_bytes(self, arrays: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
        """Return the distributions over the next byte [clients, passages · places, 256] that opened
        contributions imply."""
        values = arrays["values"].exp() if settings["form"] == "logits" else arrays["values"]
        return compared_by(settings).next_bytes({**arrays, "values": values})

    # Fusing ---------------------------------------------------------------------------------------------

    def normalised(self, values: Tensor) -> Tensor:
        """Divide by the sum over bytes (or what else is compared); zeros stay."""
        return values / values.sum(-1, keepdim=True).clamp(min=1e-12)

    def each_distribution(self, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """A place's probabilities are its one distribution; where nothing is said nothing is changed."""
        return change(values) * (values.sum(-1, keepdim=True) > 0)

    def described(self, values: Tensor) -> Tensor:
        """Return the mean distribution over the next byte [clients, 256]; of cells the string that a place's
        parties find likeliest, the second, and so on stand behind the bytes."""
        return self.normalised(values.double().sum(1))

    def divergence(self, described: Tensor) -> Tensor:
        """KL(p_n || p_m) = sum_k p_nk log p_nk - sum_k p_nk log p_mk, for all pairs at once."""
        p = described.double().clamp(min=1e-12)
        log_p = p.log()
        return (p * log_p).sum(-1, keepdim=True) - p @ log_p.T

    # Measuring ------------------------------------------------------------------------------------------

    def figures(self, scores: Floats, y: Floats, weights: Floats) -> Figures:
        """Return what is saved, ``bits_per_byte`` and ``next_byte``; a passage's bytes count by its
        weight."""
        bytes_, guesses = weights @ y
        if not bytes_ > 0:
            return {"": None, "next_byte": None}
        nats, right = weights @ scores
        return {"": float(nats / bytes_ / math.log(2)), "next_byte": float(right / guesses)}

    def goodness(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return minus the bits per byte of each passage."""
        return -scores[:, 0] / y[:, 0].clamp(min=1) / math.log(2)
