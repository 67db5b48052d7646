"""DWC: on each transfer row whoever knows the row has the say, and one's own prior comes to it.

The distribution-weighted combination of Mansour, Mohri, Rostamizadeh 2008, "Domain Adaptation with Multiple
Sources", NeurIPS: sum_k n_k p_k(x) p_k(y|x) / sum_k n_k p_k(x) is exactly the posterior of all clients' rows
together. What stands for p_k(x), up to a factor that all have in common, is a setting: ``density`` is a
classifier's density ratio to transfer rows (one number a row more on the wire) as in Sattler et al. 2021,
"FedAUX", arXiv 2102.02514; ``energy`` follows at the server from the logits (no byte more, and after private
training no cost); ``aligned`` weighs all alike but divides each client's predictions by its mean prediction,
which is the same posterior where clients differ in how frequent classes are and in nothing else.

The teacher knows the classes as all clients' rows have them. For rows like its own a client adds the
logarithm of its own class frequencies to the scores (predictor ``prior``; nothing is sent): personal
accuracy is that of both together, ``model_personal`` of the model alone; global accuracy is the model's.

What differs from the sources: theirs are for one target domain with known densities, and without exchange
round by round. Numbers of rows are not sent, so clients weigh alike in total. FedAUX scores on a common
pre-trained extractor's features and adds noise to be private; here features are each client's own, and
``density`` is refused where the mode does not pay for it.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from fedkt.distill.alignment import Marginals, align, check_marginals
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig, needs_classes
from fedkt.strategy.fusing.weighing import by_density, by_energy
from fedkt.tasks import EVERY, TEXT, task_of


class DWCConfig(StrategyConfig):
    """Settings of DWC."""

    weights: Literal["density", "energy", "aligned"] = "density"
    """What says how well a client knows a row; the default was chosen on validation rows."""
    sharpness: float = Field(2.0, ge=0)
    """Of ``energy``: what standardised energies are multiplied by; 0 weighs all alike."""
    ridge: float = Field(0.1, gt=0)
    """Of ``density``: of the classifier on standardised features."""
    align: bool = False
    """Whether predictions are divided by the client's mean prediction in any case (``aligned`` does it)."""
    smoothing: float = Field(0.1, ge=0, le=1)
    """Of that mean prediction with the uniform one."""
    marginals: Marginals = "uniform"
    """Class frequencies of the transfer set, for aligned predictions."""
    prior: bool = True
    """Whether a client adds its own class frequencies for rows like its own."""


class DWC(Strategy):
    """Give every client the mean prediction of all, weighed on each row by who knows it."""

    tasks = EVERY | TEXT
    client = "logits"
    needs_transfer = True
    fuses_by_class = True
    takes_votes = False
    joint = True
    Config = DWCConfig
    config: DWCConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange logits where their energy counts, else probabilities."""
        form = "logits" if config.weights == "energy" else "probabilities"
        density = {"density": config.ridge} if config.weights == "density" else {}
        return {"form": form, "prior": config.prior, **density}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse a comparison of private rows with others where only the training is private."""
        task, found = task_of(scenario.data), needs_classes(config, scenario, "prior", "align")
        if (config.weights == "energy" and not task.bounded) or (
            config.weights == "aligned" and not task.exclusive
        ):
            found.append(
                f"strategy.weights is {config.weights}, which speaks of classes, but data.task is "
                f"{task.name}; "
                "it must be density."
            )
        if config.weights == "density" and scenario.privacy.mode == "dpsgd":
            found += [
                "strategy.weights is density, for which clients compare private rows with transfer rows once "
                "more than privacy mode 'dpsgd' pays for; use energy, which follows from predictions."
            ]
        return found

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        check_marginals(self.config.marginals, next(iter(setting.dims.values())).classes)

    def fuse(self, contributions: Contributions) -> Fused:
        """Weigh the clients on each row and mix their predictions."""
        config, values = self.config, contributions.values
        temperature: float = self.client_settings["temperature"]
        logits = config.weights == "energy"
        weights: Tensor | None = None
        if config.weights == "density":
            weights = by_density(contributions.arrays["density"])
        elif logits:
            weights = by_energy(self.task.energy(values.double()), config.sharpness).to(values.dtype)
            values = self.task.said(values, "probabilities", temperature)
        if config.align or config.weights == "aligned":
            values = align(values, config.smoothing, config.marginals)
        mixed = self.centre(values, weights)
        report: dict[str, Any] = {"clients": list(contributions.clients)}
        if weights is not None:
            report["share"] = weights.mean(1).tolist()
            report["largest"] = weights.amax(0).mean().item()
        return Fused(
            {"values": self.task.heard(mixed, "probabilities", temperature) if logits else mixed},
            report=report,
        )
