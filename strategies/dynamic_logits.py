"""Dynamic logits: a client's own logits, shifted by what its peers say beyond their own base rates.

After Fan, Lu, Wei, Tian, Qu, Chen, Cheng 2024, "On Giant's Shoulders: Effortless Weak to Strong by Dynamic
Logits Fusion", NeurIPS 2024, arXiv 2406.15480: a large model's logits plus alpha times what fine-tuning has
changed in the logits of small experts; alpha is chosen anew for each token, so that the large model moves
by as much as the experts did (Kullback-Leibler divergences in both directions).

What differs from the paper: there is no common base model whose change could be taken, so a peer's base is
its own mean prediction over transfer rows (``base: own``), or nothing (``uniform``). The shift is the mean
over peers: the paper's objective depends on their mean divergences alone and cannot tell which expert is
right on a row. Of text a row is a place, and its classes are the next byte's. ``alpha`` is a dial between
personal (small) and global accuracy (large); the paper's choice for each row (``search``) nearly always ends
at its largest value, ``top``, since a mean of shifts is shorter than the shifts. It harms where clients are
domains whose base rates differ for good reasons, such as hospitals.
"""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.distill.alignment import base_rates
from fedkt.distill.losses import SMALLEST_PROBABILITY
from fedkt.distill.shifting import STEP, TOP, divergence, nearest
from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import others
from fedkt.tasks import TEXT


class DynamicLogitsConfig(StrategyConfig):
    """Settings of dynamic logits."""

    alpha: Annotated[float, Field(ge=0)] | Literal["search"] = 0.5
    """How far a client's logits are shifted; 0 keeps what it knows."""
    top: float = Field(TOP, gt=0)
    """The largest alpha of a search."""
    step: float = Field(STEP, gt=0)
    """Between the values that a search tries."""
    base: Literal["own", "uniform"] = "own"
    """What a peer's logits are compared with."""
    smoothing: float = Field(0.1, ge=0, le=1)
    """Of a peer's mean prediction with the uniform one."""


class DynamicLogits(Strategy):
    """Give each client its own predictions shifted by its peers'."""

    tasks = frozenset({"classification"}) | TEXT
    one_class = "it shifts logits by base rates of classes"
    client = "logits"
    needs_transfer = True
    takes_votes = False
    Config = DynamicLogitsConfig
    config: DynamicLogitsConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities"}

    def fuse(self, contributions: Contributions) -> Fused:
        """Shift each client's logits by the mean shift of the others."""
        config, p = self.config, contributions.values
        if len(p) == 1:
            return Fused({"values": p}, personal=True)
        base = base_rates(p, config.smoothing).unsqueeze(1).expand_as(p)
        if config.base == "uniform":
            base = torch.full_like(p, 1 / p.shape[-1])
        z, base = p.clamp_min(SMALLEST_PROBABILITY).log(), base.log()
        shift = others(z - base, None if self.robust.centre == "mean" else self._centre)
        alpha: Tensor | float
        if config.alpha == "search":
            alpha = searched(z, base, shift, config.top, config.step)
        else:
            alpha = config.alpha
        report: dict[str, Any] = {"clients": list(contributions.clients)}
        if isinstance(alpha, Tensor):
            report["alpha"] = alpha.mean(1).tolist()
            alpha = alpha.unsqueeze(-1)
        teachers = (z + alpha * shift).softmax(-1)
        return Fused({"values": teachers}, personal=True, report=report, beliefs=p.mean(0))

    def _centre(self, shifts: Tensor) -> Tensor:
        self.simplex, before = False, self.simplex  # shifts are no probabilities
        try:
            return self.centre(shifts)
        finally:
            self.simplex = before


def searched(z: Tensor, base: Tensor, shift: Tensor, top: float, step: float) -> Tensor:
    """Return for each client and row [clients, rows] the best alpha (:func:`fedkt.distill.shifting.nearest`).

    The client is to move as far as its peers m have on average, KL(p_m||base_m) and KL(base_m||p_m). ``z``,
    ``base``: log-probabilities [clients, rows, classes]; ``shift`` as they.
    """
    p, q = z.log_softmax(-1), base.log_softmax(-1)
    away, back = others(divergence(p, q)), others(divergence(q, p))
    return nearest(z, shift, away, back, top, step)[0]
