"""How likely a model finds spans of a text: what two models can compare wherever both have a boundary.

The other way to compare models with different tokens, beside the next byte (:mod:`fedkt.language.marginals`):
not all that could stand at a place, but a piece of text that does stand there. A span is a word with the
blanks before it; of a model whose tokens begin and end at its edges the span's probability is, by the chain
rule, the product of its tokens',

    log P(span | text before) = sum of log p(t | text before t) over the tokens t of the span,

and with whatever tokens it is the probability of the same event: of a word that is one token of both models,
that token's. A model whose tokens reach over an edge says
nothing of that span, and learns nothing of it. What a client is taught is the *binary* distribution, this
span or anything else,

    KL(teacher || student) = P ln (P / P') + (1 - P) ln ((1 - P) / (1 - P')).

Source: Minixhofer, Vulić, Ponti 2025, "Universal Cross-Tokenizer Distillation via Approximate Likelihood
Matching", NeurIPS, arXiv 2503.20083: chunks at which both tokenizations meet, a binarised f-divergence of
their likelihoods. What differs: spans are words, the same for all parties, since many are fused at once, not
the shortest chunks of one pair; the divergence is KL; their exponent on likelihoods and their measure of how
biased by its tokenizer a chunk is are left out. (The Universal Logit Distillation loss, Boizard et al. 2024,
arXiv 2402.12030, compares sorted probabilities instead, whatever token they are of.)

By hand: the text ``the cat`` is of one party the tokens ``the``, `` cat`` with p 1/4 and 1/8, of another
``th``, ``e``, `` c``, ``at`` with 1/2, 1/2, 1/4 and 1/2. Of the spans ``the`` and `` cat`` the first believes
1/4 and 1/8, the second 1/2 · 1/2 = 1/4 and 1/4 · 1/2 = 1/8: the same, though not one token is.

It tells less than beliefs about a byte do (one number of a word, not 8 of a byte), in fewer bytes: 3 a span.
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.knowledge.top_logits import FAINTEST
from fedkt.language.topk import codes_of, decoded

_WORD = re.compile(rb"\s*\S+")
LEAST = 1e-6
"""Least probability of anything but the span."""


def words_of(text: bytes) -> list[tuple[int, int]]:
    """Return the spans of a text, from which byte to before which: words with the blanks before them.

    >>> words_of(b"the cat, 7 ")
    [(0, 3), (3, 8), (8, 10)]
    """
    return [found.span() for found in _WORD.finditer(text)]


def tokens_of(
    spans: Sequence[tuple[int, int]], at: NDArray[np.int64], ids: int
) -> list[tuple[int, int] | None]:
    """Return from which token to before which each span goes, None where a token reaches over its edge.

    ``at`` [bytes, 2]: in which of the text's ``ids`` tokens each byte stands, and its state there, 0 where
    the token begins (:func:`fedkt.language.marginals.places`).

    >>> tokens_of([(0, 3), (3, 4)], np.array([[0, 0], [0, 1], [1, 0], [2, 0]]), 3), "th e ."
    ([(0, 2), (2, 3)], 'th e .')
    >>> tokens_of([(0, 3), (3, 4)], np.array([[0, 0], [0, 1], [1, 0], [1, 2]]), 2), "th e."
    ([None, None], 'th e.')
    """
    begins = [*(token if state == 0 else None for token, state in at.tolist()), ids]
    edges = [(begins[start], begins[stop]) for start, stop in spans]
    return [None if first is None or last is None else (first, last) for first, last in edges]


def both(log_p: Tensor) -> Tensor:
    """Return the log-probabilities [..., 2] of a span and of anything else, of the span's [...].

    >>> both(torch.tensor([0.25]).log()).exp()
    tensor([[0.2500, 0.7500]])
    """
    log_p = log_p.clamp(max=-LEAST)
    return torch.stack([log_p, torch.log(-torch.expm1(log_p))], -1)


def said(beliefs: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens uint8 [..., 1] and codes uint8 [..., 2] of distributions [..., 2]; zeros are no spans.

    One token, 0, stands for the span as the text has it; codes are those of
    :class:`~fedkt.knowledge.top_logits.TopLogits`.

    >>> said(torch.tensor([[0.25, 0.75], [0.0, 0.0]]))[1].tolist()  # -16 ln of 1/4 and 3/4
    [[23, 5], [255, 0]]
    """
    codes = codes_of(beliefs.double(), beliefs.sum(-1, keepdim=True) <= 0)
    return torch.zeros_like(codes[..., :1]), codes


def heard(codes: Tensor) -> Tensor:
    """Return distributions float32 [..., 2] of codes [..., 2]; zeros where nothing was said.

    >>> heard(torch.tensor([[23, 5], [255, 0]], dtype=torch.uint8))
    tensor([[0.2451, 0.7549],
            [0.0000, 0.0000]])
    """
    parts = decoded(codes)
    return parts / parts.sum(-1, keepdim=True) * (codes[..., :1] < FAINTEST)
