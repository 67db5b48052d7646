"""FedMD: average the clients' logits on the transfer set, distil, train again.

Li, Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation", arXiv 1910.03581.

With a public set (``data.public``) each client first trains on it, as in the paper; then rounds of digesting
the mean and revisiting private data follow. A round here revisits, sends and then digests, so the accuracy
after revisiting is ``before_digest``, the accuracy itself that after digesting.

What differs from the paper: the digestion's loss is the scenario's; the default is the official code's mean
absolute error on logits. The transfer set is a set of its own, not a sample of the public set. Under strong
label skew a few very sure clients dominate a mean of logits, so a mean of probabilities can be exchanged
instead (``average: probabilities``), which is KnFu at beta = 0. Distilled by ``kl`` in a phase of its own,
one common teacher on few rows a client ends below training alone; where training rehearses it
(``clients.distill.together``) not. Of the settings, ``align``, ``prior`` and ``abstain`` are not the paper's.
"""

from typing import Any, Literal

from pydantic import Field

from fedkt.strategy import Contributions, Fused, idle
from fedkt.strategy.common_teacher import CommonTeacher, CommonTeacherConfig
from fedkt.tasks import EVERY, TEXT


class FedMDConfig(CommonTeacherConfig):
    """Settings of FedMD."""

    average: Literal["logits", "probabilities"] = "logits"
    """What is exchanged and averaged; the paper's are logits."""
    pretrain: int = Field(25, ge=0)
    """Epochs on the public rows, where there are some, before the first round; the official code's 25."""


class FedMD(CommonTeacher):
    """Give every client the mean prediction of all."""

    tasks = EVERY | TEXT
    fuses_by_class = True
    default_loss = "mae"
    Config = FedMDConfig
    config: FedMDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client what to send."""
        return {"form": config.average, "pretrain": config.pretrain, **super().settings(config)}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse to pretrain on nothing, to align logits, and to leave out whom nobody sees."""
        found = super().problems(config, scenario, clients)
        if not scenario.data.public:
            found += idle(config, "without public rows (data.public)", "pretrain")
        return found + (idle(config, "with average logits", "align") if config.average == "logits" else [])

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over clients."""
        return Fused({"values": self.mean(contributions.values)})
