"""What a model of text is asked about a passage, as columns behind the passage's bytes.

First a column of each place: 0 for none, 1 + the number of a byte, minus (1 + the number of a word). In the
number of a byte stands above its 32 lowest bits how many tokens the model is to name there, and above its 40
lowest bits how many strings it is told of: they follow behind the places, those of the first place first.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_NAMED, _TOLD, _MANY = 32, 40, 0xFF


class Questions(NamedTuple):
    """``at`` int64 [n, places]: -1 for none, the number of a byte, or -2 minus that of a word; ``strings``
    int64 [n, places, K]: those that the model is told of; ``named``: tokens that it is to name."""

    at: Tensor
    strings: Tensor
    named: int

    @property
    def form(self) -> tuple[int, int, int]:
        """Places, strings told of each, tokens to be named at each."""
        return self.at.shape[1], self.strings.shape[-1], self.named


def of_bytes(places: Tensor, strings: Tensor | None = None, named: int = 0) -> Tensor:
    """Return the columns that ask about bytes [n, places], -1 for none; ``strings`` [n, places, K].

    >>> of_bytes(torch.tensor([[4, -1]])).tolist()
    [[5, 0]]
    >>> asked = read(of_bytes(torch.tensor([[4, -1]]), torch.tensor([[[70, 80], [0, 0]]])))
    >>> asked.at.tolist(), asked.strings.tolist()
    ([[4, -1]], [[[70, 80], [0, 0]]])
    """
    told = 0 if strings is None else strings.shape[-1]
    columns = (1 + places + (named << _NAMED) + (told << _TOLD)) * (places >= 0)
    return columns if strings is None else torch.cat([columns, strings.flatten(1)], 1)


def of_words(places: Tensor) -> Tensor:
    """Return the columns that ask about words [n, places], -1 for none.

    >>> read(of_words(torch.tensor([[4, -1]]))).at.tolist()
    [[-6, -1]]
    """
    return -1 - places


def read(columns: Tensor) -> Questions:
    """Return the questions that columns [n, ...] ask; some row must ask one if strings or tokens are meant.

    >>> read(of_bytes(torch.tensor([[4, -1]]), named=3)).form
    (2, 0, 3)
    """
    marks = columns[:, :1].clamp(min=0).amax(0) if len(columns) else columns.new_zeros(columns.shape[1])[:1]
    told, named = (int((marks >> bit & _MANY).sum()) for bit in (_TOLD, _NAMED))
    places = columns.shape[1] // (1 + told)
    at = columns[:, :places]
    at = torch.where(at > 0, at & (1 << _NAMED) - 1, at) - 1
    return Questions(at, columns[:, places:].reshape(len(columns), places, told), named)
