"""Dropout in stacked models: every client's masks come from its own stream, as when it trains alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedkt.client.placing import placed

MOST_BYTES = 64 * 2**20
"""Masks that are drawn ahead for an accelerator: one copy takes those of many steps, a byte per value."""

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


class Masks:
    """The masks of a phase, step by step: on an accelerator those of many steps arrive in one copy.

    ``rows`` [clients, steps]: how many rows each client's batches have, -1 where it takes no step any more;
    clients are sorted, so those at work are the first.
    """

    def __init__(
        self,
        uses: Sequence[Use],
        generators: Sequence[torch.Generator],
        rows: Sequence[Sequence[int]],
        device: torch.device,
    ) -> None:
        self._uses, self._generators, self._rows, self._device = uses, generators, rows, device
        self._ahead: list[list[Tensor]] = []
        """What has arrived: by step, by use, which values are kept [clients at work, most, ...]."""

    def at(self, step: int, at_work: int, most: int) -> list[Tensor]:
        """Return the masks [clients at work, most, ...] of a step, which come in order."""
        if self._device.type == "cpu" or not self._uses:
            return draw(self._uses, self._generators[:at_work], self._lengths(step)[:at_work], most)
        if not self._ahead:
            self._fill(step)
        kept = self._ahead.pop(0)
        return [its.to(torch.float32).div_(1 - p) for its, (p, _) in zip(kept, self._uses, strict=True)]

    def _fill(self, step: int) -> None:
        """Draw the masks of this step and of those after it for which there is room, and move them."""
        steps, held = len(self._rows[0]), 0
        drawn: list[dict[str, Tensor]] = []
        while step < steps and (not drawn or held < MOST_BYTES):
            lengths = [n for n in self._lengths(step) if n >= 0]
            masks = draw(self._uses, self._generators[: len(lengths)], lengths, max(1, *lengths))
            drawn.append({str(i): mask > 0 for i, mask in enumerate(masks)})
            held += sum(mask.numel() for mask in masks)
            step += 1
        self._ahead = [list(part.values()) for part in placed(drawn, self._device)]

    def _lengths(self, step: int) -> list[int]:
        return [its[step] for its in self._rows]
