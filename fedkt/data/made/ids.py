"""Texts as token ids, word after word by themselves."""

import numpy as np

from fedkt.data.columns.tokens import id_of_word, split_words
from fedkt.data.made.draws import Draws, Numbers
from fedkt.data.made.public import Public, generator
from fedkt.data.made.words import Fall, Length, lengths, ranked
from fedkt.errors import InputError


@generator("tokens", files=("list",))
def tokens(
    public: Public, n: int, draws: Draws, *, list: str | None = None, fall: Fall = 0.5, length: Length = 20.0
) -> Numbers:
    """Token ids by the law of ``words``: of a list of words, the most frequent first, or by their number.

    ``list``: a public text file, one word a line; without it id 1 is the most frequent, which hashed ids,
    those of texts, are not.
    """
    known = np.arange(1, public.vocabulary)
    if list is not None:
        known = np.array([id_of_word(word) for line in list.splitlines() for word in split_words(line)[:1]])
        check_hashed(public, "list")
    elif public.hashed:
        raise InputError(
            "data.transfer.from is 'made:tokens', but token ids of texts are hashes of words, which have "
            "no order; "
            "data.transfer.generator must be {list: FILE}, a public file with one word a line, the most "
            "frequent "
            "first."
        )
    if not known.size:
        raise InputError("data.transfer.generator.list names a file without words; it must hold one a line.")
    drawn = known[ranked(draws, known.size, fall, n * public.shape[0])].reshape(n, -1)
    return filled(drawn, lengths(draws, n, length))


def check_hashed(public: Public, setting: str) -> None:
    """Refuse a file of words where rows are no texts."""
    if not public.hashed:
        raise InputError(
            f"data.transfer.generator.{setting} names a file of words, but rows are token ids already; it "
            f"must be "
            "left out."
        )


def filled(ids: Numbers, sizes: Numbers) -> Numbers:
    """Return ids [n, L] with padding, 0, behind the first ``sizes`` [n] of each row."""
    return np.where(np.arange(ids.shape[1]) < sizes[:, None], ids, 0).astype(np.int64)
