"""One thread while an estimator fits or predicts: sums then have one order, and results the same bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Run the block with one thread in OpenMP and in the libraries of linear algebra."""
    with _controller().limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _controller() -> Any:
    """Return what knows the libraries with threads; looking for them takes longer than a small fit."""
    import scipy.linalg  # noqa: F401  (brings a library of its own)
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
