"""What a generator may know: the form of the rows and what the scenario says of them, never a row."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fedkt.data.made.draws import Draws
from fedkt.data.sets.dataset import Kind


@dataclass(frozen=True)
class Range:
    """What is known of a column: from ``low`` to ``high``, or one of ``values``, in the units of the data.

    ``whole``: whether only whole numbers occur; ``weights``: how often each of ``values`` comes, relative to
    the others (empty: all alike); ``missing``: the share of rows that lack it.
    """

    low: float = 0.0
    high: float = 1.0
    values: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    whole: bool = False
    missing: float = 0.0


@dataclass(frozen=True)
class Public:
    """``shape``: of one row; ``vocabulary``: number of token ids, 0 for other kinds; ``hashed``: whether ids
    are hashes of words; ``mean``: of the pixels in [0, 1], None where nobody said it; ``ranges``: of each
    column in order, None where there are none."""

    kind: Kind
    shape: tuple[int, ...]
    vocabulary: int = 0
    hashed: bool = False
    mean: float | None = None
    ranges: tuple[Range, ...] | None = None


class Generator(Protocol):
    """Makes ``n`` raw rows, as a Dataset holds them; see :func:`generator` for what else it says of
    itself."""

    makes: tuple[Kind, ...]
    version: int
    exact: bool
    files: tuple[str, ...]

    def __call__(self, public: Public, n: int, draws: Draws, **settings: Any) -> Any: ...


def generator(
    *makes: Kind, version: int = 1, exact: bool = True, files: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Generator]:
    """Say what a generator is: the kinds of data that it makes; its ``version``, which changes with its rows.

    ``exact``: whether its rows have the same bits everywhere, so that parties can make them themselves;
    ``files``: which settings name public files, whose text the generator gets in place of their names.

    >>> @generator("tabular")
    ... def ones(public: Public, n: int, draws: Draws) -> Any:
    ...     import numpy as np
    ...     return np.ones((n, *public.shape))
    >>> ones(Public("tabular", (2,)), 1, Draws(0)).tolist()
    [[1.0, 1.0]]
    >>> ones.makes, ones.exact
    (('tabular',), True)
    """

    def told(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def made(public: Public, n: int, draws: Draws, **settings: Any) -> Any:
            return function(public, n, draws, **settings)

        about: Any = made
        about.makes, about.version, about.exact, about.files = makes, version, exact, files
        return made

    return told
