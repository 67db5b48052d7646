"""K-shot: labels of K transfer rows, which the server has, say whom to listen to.

After Yang, Qin, Wang, Sun, Chen, Wang, Wang, Yu 2024, "Leveraging Open Knowledge for Advancing Task Expertise
in Large Language Models", arXiv 2408.15915: of a bank of models those few are taken whose ranks by perplexity
and by accuracy on K labelled rows are best and whose members are unlike each other (``use: choose``); and
after Frohmann, Holtermann, Masoudian, Lauscher, Rekabsaz 2024, "ScaLearn: Simple and Highly
Parameter-Efficient Task Transfer by Learning to Scale", Findings of ACL, arXiv 2310.01217, whose scales of
each source are learned without being made to sum to one (``stack``). ``recall``, ours, weighs a client on a
class by what it gives the labelled rows of that class.

What differs from the papers: rows and labels stand for a task, predictions for a model's weights. Ranks begin
at 0 and tuples are ranked by their mean cosine, which has the order of the published diversity where that is
positive. There is no router, and no further training of the chosen. Scales are of log-probabilities per
client and class, one linear model on top of all clients (stacking), held to the geometric mean by a ridge.

The K labels are the server's own and public: no privacy mode speaks of them. Nothing measured here recommends
it: docs/results/tried.md.
"""

from typing import Any, Literal

import torch
from pydantic import Field

from fedkt.errors import InputError
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig, idle
from fedkt.strategy.fusing.shots import LEAST, chosen, floored_log, recall, stacked


class KShotConfig(StrategyConfig):
    """Settings of K-shot."""

    use: Literal["recall", "choose", "stack"] = "recall"
    """Weights per client and class, the mean of some clients, or learned scales."""
    rows: int = Field(50, ge=1)
    """K: how many transfer rows the server knows the labels of."""
    bank: int = Field(8, ge=1)
    """Of ``choose``: among how many clients, by their ranks, it is chosen."""
    members: int = Field(4, ge=1)
    """Of ``choose``: how many are chosen; all of the bank where it has no more."""
    ridge: float = Field(0.01, gt=0)
    """Of ``stack``: times the squared distance of scales from 1/clients and of shifts from 0."""


class KShot(Strategy):
    """Give every client what those say who are right on the labelled rows."""

    one_class = "it shares what is known per class"
    client = "logits"
    needs_transfer = True
    joint = True
    labelled = "rows"
    Config = KShotConfig
    config: KShotConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities"}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse what another use takes the effect from, and a robust centre where no mean is taken."""
        other = {"choose": ("bank", "members"), "stack": ("ridge",)}
        spare = [name for use, names in other.items() if use != config.use for name in names]
        found = idle(config, f"with use '{config.use}'", *spare)
        if config.use == "stack" and scenario.robust.centre != "mean":
            found.append(
                f"robust.centre is {scenario.robust.centre}, but with strategy.use 'stack' no mean over "
                "clients is taken; use recall or choose."
            )
        return found

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        if setting.probe is None:
            raise InputError(
                "strategy 'kshot' needs labels of transfer rows at the server, which only a simulation has; "
                "use dwc."
            )

    def fuse(self, contributions: Contributions) -> Fused:
        """Listen to the clients by the labelled rows among those asked for; alike where there are none."""
        config, p, probe = self.config, contributions.values, self.setting.probe
        assert probe is not None
        there, labels = probe.among(contributions.rows)
        clients = list(contributions.clients)
        if not len(labels):
            return Fused({"values": self.centre(p)}, report={"clients": clients, "labelled": 0})
        report: dict[str, Any] = {"clients": clients, "labelled": len(labels)}
        shots = p[:, there]
        if config.use == "choose":
            who = chosen(shots, labels, p, config.bank, config.members)
            report["chosen"] = [clients[i] for i in who]
            return Fused({"values": self.centre(p[who])}, report=report)
        if config.use == "stack":
            scales, shifts = stacked(shots, labels, config.ridge)
            logits = torch.einsum("nk,nrk->rk", scales, floored_log(p)) + shifts
            return Fused({"values": logits.softmax(-1)}, report={**report, "scales": scales.mean(1).tolist()})
        weights = recall(shots, labels)
        mixed = self.centre(p.transpose(1, 2), weights.to(p.dtype)).transpose(0, 1).clamp_min(0)
        taught = mixed / mixed.sum(-1, keepdim=True).clamp_min(LEAST)
        return Fused({"values": taught}, report={**report, "share": weights.mean(1).tolist()})
