"""Dropout in stacked models: every client's masks come from its own stream, as when it trains alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Use = tuple[float, tuple[int, ...]]
"""One call of a dropout layer: its probability and the shape of one row of what it gets."""


class Dropouts:
    """The dropout layers of a module, replaced in place by layers that multiply by given masks."""

    def __init__(self, module: nn.Module) -> None:
        self._masks: list[Tensor] = []
        self._seen: list[tuple[float, torch.Size]] | None = None
        self.any = False
        for parent in list(module.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Dropout:
                    setattr(parent, name, _Given(child.p, self))
                    self.any = True

    def give(self, masks: Sequence[Tensor]) -> None:
        """Set the masks of the next calls, in their order."""
        self._masks = list(masks)

    def watch(self) -> None:
        """Let everything through and note the calls, until :meth:`uses`."""
        self._seen = []

    def uses(self, rows: int) -> list[Use]:
        """Return the calls since :meth:`watch`, in which the module got ``rows`` rows.

        Raises ValueError where a layer did not get one row for each of them.
        """
        seen, self._seen = self._seen or [], None
        if any(not shape or shape[0] != rows for _, shape in seen):
            raise ValueError("a dropout layer in it does not get one row per row")
        return [(p, tuple(shape[1:])) for p, shape in seen]

    def through(self, p: float, x: Tensor) -> Tensor:
        """Do what a layer does with ``x``."""
        if self._seen is not None:
            self._seen.append((p, x.shape))
            return x
        return x * self._masks.pop(0)


class _Given(nn.Module):
    def __init__(self, p: float, owner: Dropouts) -> None:
        super().__init__()
        self.p, self._owner = p, owner

    def forward(self, x: Tensor) -> Tensor:
        return self._owner.through(self.p, x) if self.training and self.p > 0 else x


def draw(
    uses: Sequence[Use], generators: Sequence[torch.Generator], rows: Sequence[int], most: int
) -> list[Tensor]:
    """Return masks [clients, most, ...] for each use; client k's are drawn for ``rows[k]`` rows.

    The numbers are those that ``nn.Dropout`` draws on the CPU for one client after the other use.
    """
    masks = [torch.zeros(len(rows), most, *shape) for _, shape in uses]
    if not uses:
        return masks
    for k, (generator, count) in enumerate(zip(generators, rows, strict=True)):
        for mask, (p, shape) in zip(masks, uses, strict=True):
            kept = torch.empty(count, *shape).bernoulli_(1 - p, generator=generator)
            mask[k, :count] = kept.div_(1 - p)
    return masks
