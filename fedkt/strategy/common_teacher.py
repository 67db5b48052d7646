"""What methods with one teacher for all may do about clients whose classes are unlike in frequency."""

from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt.distill.alignment import Alignment, check_marginals
from fedkt.privacy.modes import mode_of
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.own_settings import needs_classes
from fedkt.strategy.rounds.given import Setting

if TYPE_CHECKING:
    from fedkt.scenario import Scenario


class CommonTeacherConfig(StrategyConfig):
    """Settings of methods whose one teacher is a mean of clients' predictions.

    >>> CommonTeacherConfig(align={"smoothing": 0.2}, abstain=0.9).align.marginals
    'uniform'
    """

    align: Alignment | None = None
    """Whether clients divide their probabilities by their mean over rows before they send them, and how."""
    prior: bool = False
    """Whether a client adds its own class frequencies for rows like its own."""
    abstain: float | None = Field(None, gt=0, le=1)
    """Leaves a client out on rows where its entropy exceeds this share of the largest; null: nobody."""


class CommonTeacher(Strategy):
    """Base of methods that give every client one teacher, the mean of all predictions on transfer rows."""

    client = "logits"
    needs_transfer = True
    fuses_mean = True
    Config = CommonTeacherConfig
    config: CommonTeacherConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        if self.config.align is not None:
            classes = next(iter(setting.dims.values())).classes
            check_marginals(self.config.align.marginals, classes, "strategy.align.marginals")

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client what it does to its predictions."""
        told = {"align": config.align.model_dump(mode="json")} if config.align else {}
        return {**told, **({"prior": True} if config.prior else {})}

    @classmethod
    def problems(cls, config: Any, scenario: "Scenario", clients: int) -> list[str]:
        """Refuse to leave out whom nobody sees, and what speaks of one class per row."""
        mode = mode_of(scenario.privacy)
        if found := needs_classes(config, scenario, "align", "prior", "abstain"):
            return found
        if config.abstain is None or mode is None or not (mode.at_server or mode.form == "votes"):
            return []
        return [
            "strategy.abstain asks how sure single clients are, which nobody sees in privacy mode "
            f"'{scenario.privacy.mode}'; leave it out."
        ]

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over clients of ``values`` [clients, rows, classes], on each row of those heard."""
        if self.config.abstain is None:
            return self.centre(values)
        return self.centre(
            values, certain(values if self.simplex else values.softmax(-1), self.config.abstain)
        )


def certain(probabilities: Tensor, most: float) -> Tensor:
    """Return who is heard on which row, 1 or 0 [clients, rows]: whose entropy is at most ``most`` · ln K.

    All where nobody is so sure. After Qu et al. 2023, "Upcycling Models under Domain
    and Category Shift" (GLC), CVPR, arXiv 2303.07110, which rejects rows above 0.55: at three classes that is
    nearly all of them, at ten few, and it does not notice classes that a client has never seen.

    >>> certain(torch.tensor([[[0.8, 0.1, 0.1]], [[0.5, 0.3, 0.2]]]), 0.6).tolist()  # .582 and .937
    [[1.0], [0.0]]
    """
    sure = entropy(probabilities) <= most * torch.tensor(float(probabilities.shape[-1])).log() + 1e-6
    heard: Tensor = (sure | ~sure.any(0)).to(probabilities.dtype)
    return heard
