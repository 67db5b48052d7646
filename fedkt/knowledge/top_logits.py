"""What language models say of public text: at chosen places the likeliest tokens, by their bytes.

A *place* is a byte of a passage; what is said of it is a distribution over what stands there, given the text
before. Of it the k largest log-probabilities cross the wire, with the bytes of their tokens, and the rest's
total. Places may also be spoken of by *strings*, pieces of text of several bytes
(:mod:`fedkt.language.strings`), each one number: its length times 2^56, plus its bytes, the first one
highest, and zeros. The text itself does not travel: every message carries its hash, and which places are
spoken of follows from the text alone (:func:`fedkt.language.topk.places_of`), so nothing points outside it.

A log-probability takes one byte: -16 ln p, rounded up, so that what is said never sums to more than one. Its
relative error is at most 1/16; p below e^-15.9 is said as that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.knowledge.codec import Expected, Rejected, Spec
from fedkt.knowledge.kinds import MOST_DENSE, Dims, Knowledge, row_ids

CODES_PER_NAT, FAINTEST = 16, 255
"""Codes are whole sixteenths of a nat, at most this."""
MOST_BYTES, LENGTH_AT = 7, 56
"""Bytes of a string at most, and from which bit of its number on its length stands."""
BODY = (1 << LENGTH_AT) - 1
"""The bits of a string's bytes."""
_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class TopLogits(Knowledge):
    """Beliefs about ``places`` bytes of each passage.

    ``tokens`` uint8 [passages, places, k]: the k likeliest next bytes, which are the bytes of single-byte
    tokens whatever the sender's own tokens are (:mod:`fedkt.language.marginals`); ``codes`` uint8 [passages,
    places, k + 1]: theirs, likeliest first, then that of all other bytes together; ``rows`` and ``density``
    as in :class:`~fedkt.knowledge.kinds.Answers`. Of spans (:mod:`fedkt.language.spans`) k is 1, and token 0
    is the span as it stands. ``strings`` int64 [passages, places, m], where they are compared: pieces of text
    of 2 to :data:`MOST_BYTES` bytes, 0 for none; their m codes stand between those of the bytes and the
    rest's, likeliest first, and those of the bytes are without them. A passage with fewer bytes than places
    has places with nothing to say, whose tokens' codes are all :data:`FAINTEST`.

    >>> dims = Dims(rows=300, transfer=1350, classes=2, width=2)
    >>> specs = TopLogits.expected(dims, top=8, places=80)
    >>> sum(spec.nbytes for spec in specs.values()) / 300 < 1500  # bytes of a passage
    True
    >>> specs = TopLogits.expected(dims, top=8, places=80, strings=8)
    >>> round(sum(spec.nbytes for spec in specs.values()) / 300)
    7121
    """

    kind = "top_logits"
    tokens: NDArray[np.uint8]
    codes: NDArray[np.uint8]
    strings: NDArray[np.int64] | None = None
    rows: NDArray[np.int32] | None = None
    density: NDArray[np.float32] | None = None

    @staticmethod
    def expected(
        dims: Dims,
        *,
        top: int,
        places: int,
        strings: int = 0,
        with_rows: bool = False,
        density: bool = False,
    ) -> Expected:
        """Return the arrays of a message about ``dims.rows`` passages; ``top``: k, from 1 to 255;
        ``strings``: m, 0 where only bytes are named."""
        shape, orderly = (dims.rows, places), partial(at_most_one, top=top)
        found = {
            "tokens": Spec("uint8", (*shape, top), 0, 255, further=distinct),
            "codes": Spec("uint8", (*shape, top + strings + 1), 0, FAINTEST, further=orderly),
        }
        if strings:
            most = (MOST_BYTES << LENGTH_AT) + BODY
            found["strings"] = Spec("int64", (*shape, strings), 0, most, further=spelled_out)
        if with_rows:
            found["rows"] = row_ids(dims)
        if density:
            found["density"] = Spec("float32", (dims.rows,), -MOST_DENSE, MOST_DENSE)
        return found


Further = Callable[[str, NDArray[Any]], None]
"""Looks at a received array, by its name; raises Rejected where it is not what it must be."""


def distinct(name: str, array: NDArray[Any]) -> None:
    """Refuse a place [..., k] that names a byte twice.

    >>> distinct("tokens", np.array([[101, 32], [101, 101]], np.uint8))
    Traceback (most recent call last):
    fedkt.knowledge.codec.Rejected: array 'tokens' names byte 101 twice at one place.
    """
    if (twice := _repeated(array)).size:
        raise Rejected("sum", f"array '{name}' names byte {twice[0]} twice at one place.")


def spelled_out(name: str, array: NDArray[Any]) -> None:
    """Refuse strings [..., m] that are none, and a place that names one twice.

    >>> spelled_out("strings", np.array([[3 << 56 | 0x74686500000000, 2 << 56 | 0x74686500000000]]))
    Traceback (most recent call last):
    fedkt.knowledge.codec.Rejected: array 'strings' has a string of 2 bytes with more behind them.
    """
    lengths = array >> LENGTH_AT
    bad = (array != 0) & (lengths < 2)
    if bad.any():
        many = lengths[bad][0]
        raise Rejected(
            "range", f"array '{name}' has a string of {many} bytes; it must have 2 to {MOST_BYTES}."
        )
    over = (array & (BODY >> (8 * lengths))) != 0
    if over.any():
        many = lengths[over][0]
        raise Rejected("range", f"array '{name}' has a string of {many} bytes with more behind them.")
    twice = _repeated(array)
    if (twice := twice[twice != 0]).size:
        held = int(twice[0] & BODY).to_bytes(MOST_BYTES, "big")[: int(twice[0]) >> LENGTH_AT]
        raise Rejected("sum", f"array '{name}' names {held!r} twice at one place.")


def _repeated(array: NDArray[Any]) -> NDArray[Any]:
    """Return what stands twice at some place [..., k]."""
    ordered = np.sort(array, axis=-1)
    found: NDArray[Any] = ordered[..., 1:][ordered[..., 1:] == ordered[..., :-1]]
    return found


def at_most_one(name: str, array: NDArray[Any], top: int | None = None) -> None:
    """Refuse codes [..., k + m + 1] not likeliest first, or whose probabilities sum to more than one.

    The first k = ``top`` are in an order of their own (None: all but the last are), and so are the m behind.

    >>> at_most_one("codes", np.array([[5, 12, 255], [5, 5, 255]], np.uint8))  # .73 + .47; .73 + .73
    Traceback (most recent call last):
    fedkt.knowledge.codec.Rejected: array 'codes' has a place whose probabilities sum to 1.2040.
    """
    named = array[..., :-1]
    for part in (named,) if top is None else (named[..., :top], named[..., top:]):
        if (part[..., 1:] < part[..., :-1]).any():
            raise Rejected(
                "range", f"array '{name}' has a place whose codes are not in order, likeliest first."
            )
    total = PROBABILITIES[array].sum(-1)
    if array.size and total.max() > 1 + _SUM_TOLERANCE:
        over = total[total > 1 + _SUM_TOLERANCE].flat[0]
        raise Rejected("sum", f"array '{name}' has a place whose probabilities sum to {over:.4f}.")


PROBABILITIES = np.exp(-np.arange(FAINTEST + 1) / CODES_PER_NAT) * (np.arange(FAINTEST + 1) < FAINTEST)
"""The probability that each code stands for at least; the faintest may stand for none."""
