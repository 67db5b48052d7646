"""Texts that go on as a public text does: neighbouring words are neighbours there, whole sentences are
not."""

from typing import Annotated

import numpy as np
from pydantic import Field

from fedkt.data.columns.tokens import id_of_word, split_words
from fedkt.data.made.draws import Draws, Numbers
from fedkt.data.made.ids import check_hashed, filled
from fedkt.data.made.public import Public, generator
from fedkt.data.made.words import Length, lengths
from fedkt.errors import InputError


@generator("tokens", files=("text",))
def ngrams(
    public: Public,
    n: int,
    draws: Draws,
    *,
    text: str | None = None,
    order: Annotated[int, Field(ge=2, le=5)] = 2,
    length: Length = 20.0,
) -> Numbers:
    """Token ids of texts whose every ``order`` neighbouring words occur in a public text.

    ``text``: that file, which must be public, since pieces of it are sent about; the longer its n-grams, the
    more of it they repeat.
    """
    if text is None:
        raise InputError(
            "data.transfer.from is 'made:ngrams', but no text is named; data.transfer.generator must be "
            "{text: FILE}, a public file."
        )
    check_hashed(public, "text")
    found = split_words(text)
    if len(found) <= order:
        raise InputError(
            f"data.transfer.generator.text names a file of {len(found)} words; it must hold more than "
            f"{order}."
        )
    corpus = np.array([id_of_word(word) for word in found])
    context = _contexts(corpus, order - 1)
    places = np.argsort(context, kind="stable")
    begins = np.searchsorted(context[places], np.arange(context.max() + 2))
    at = draws.below(len(corpus), n)
    made = np.empty((n, public.shape[0]), np.int64)
    for number in range(made.shape[1]):
        made[:, number] = corpus[at]
        first, after = begins[context[at]], begins[context[at] + 1]
        # Another place with the same words before it, and what follows there.
        there = places[first + (draws.below(1 << 31, n) * (after - first) >> 31)]
        at = (there + 1) % len(corpus)
    return filled(made, lengths(draws, n, length))


def _contexts(corpus: Numbers, size: int) -> Numbers:
    """Return a number for the ``size`` words that end at each place; the text goes on from its end to its
    beginning."""
    number = np.unique(corpus, return_inverse=True)[1]
    found = number
    for back in range(1, size):
        found = np.unique(found * (number.max() + 1) + np.roll(number, back), return_inverse=True)[1]
    return found.astype(np.int64)
