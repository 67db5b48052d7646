"""The rows that everybody may see, as a model may look at them before it is trained."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class CommonRows:
    """Transfer rows, from which models may learn features without labels; what they learn is kept.

    ``rows`` returns them as models get them, [n, ...]; None: what is learned will be loaded with a model.

    >>> import torch
    >>> common = CommonRows(lambda: torch.tensor([[1.0], [3.0]]))
    >>> common.learned("mean", lambda rows: rows.mean(0))
    tensor([2.])
    """

    def __init__(self, rows: "Callable[[], Tensor] | None") -> None:
        self._rows = rows
        self._known: dict[Hashable, object] = {}

    def learned(self, what: Hashable, learn: "Callable[[Tensor], T]") -> T | None:
        """Return what ``learn`` makes of the rows, once for each ``what``; None where it will be loaded."""
        if self._rows is None:
            return None
        if what not in self._known:
            self._known[what] = learn(self._rows())
        found: T = self._known[what]  # type: ignore[assignment]
        return found
