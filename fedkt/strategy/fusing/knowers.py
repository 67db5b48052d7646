"""Means over clients that do not all know the same classes (``data.labels: per-site``).

A client's probability of a class that it does not know is 0 on every row, which says that it cannot answer
for it, not that no row is of it. So each class is averaged over those who know it, and each row sums
to one then.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fedkt.scenario import Scenario


def among_knowers(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean [rows, classes] of probabilities [clients, rows, classes], each class over its knowers.

    ``weights``: [clients], [clients, rows] or None for all alike; on each row some client must have some.

    >>> a, b = [[0.6, 0.4, 0.0]], [[0.0, 0.3, 0.7]]  # the first does not know class 2, the second not class 0
    >>> among_knowers(torch.tensor([a, b]))  # (0.6, 0.35, 0.7) / 1.65
    tensor([[0.3636, 0.2121, 0.4242]])
    """
    known = (values > 0).any(1, keepdim=True).to(values.dtype)
    weight = torch.ones_like(values[..., :1]) if weights is None else weights.to(values.dtype)
    while weight.ndim < values.ndim:
        weight = weight.unsqueeze(-1)
    heard = (weight * known).sum(0)
    mean = (weight * values).sum(0) / torch.where(heard > 0, heard, 1)
    total = mean.sum(-1, keepdim=True)
    return mean / torch.where(total > 0, total, 1)


def per_site_problems(
    strategy: Any, settings: Mapping[str, Any], scenario: "Scenario", refits: bool
) -> list[str]:
    """Return why sites with labels of their own do not go with a scenario, in sentences.

    ``settings``: of the strategy's client half; ``refits``: whether a client's model is an estimator.
    """
    form = settings.get("form", "logits")
    name, found = scenario.strategy.name, []
    if not strategy.fuses_by_class:
        found.append(
            f"data.labels is per-site, but strategy '{name}' does not average each class over those who know "
            "it; dwc, knfu, fedmd (average: probabilities), dsfl and ktpfl do."
        )
    elif form != "probabilities" and strategy.needs_transfer:
        found.append(
            f"data.labels is per-site, but strategy '{name}' exchanges {form} as it is set, which do not say "
            "what a site does not know; let it exchange probabilities."
        )
    if scenario.privacy.mode != "none":
        found.append(
            f"data.labels is per-site, but which classes a site answers for follows from its rows, which "
            f"privacy mode '{scenario.privacy.mode}' does not pay for; write 'privacy: {{mode: none}}', or "
            "list all labels."
        )
    if scenario.data.task != "classification":
        found.append(
            f"data.labels is per-site, but data.task is {scenario.data.task}; sites can have classes only."
        )
    if refits:
        found.append("data.labels is per-site, for which models need outputs that can be shut; use nets.")
    if scenario.data.unlabelled:
        found.append(
            "data.labels is per-site, but clients of data.unlabelled know no class at all; list all labels."
        )
    guard = scenario.clients.guard
    if guard is not None and guard.folds:
        found.append(
            "data.labels is per-site, which the copies of clients.guard.folds do not follow; leave it out."
        )
    if (scenario.robust.centre, scenario.robust.filter) != ("mean", "none"):
        found.append("data.labels is per-site, which robust fusion does not take; leave robust out.")
    if (
        scenario.strategy.settings.get("align") is not None
        or scenario.strategy.settings.get("weights") == "aligned"
    ):
        found.append(
            "data.labels is per-site, but alignment divides by how often a class is predicted, which is "
            "never for classes that a site does not know; leave strategy.align out."
        )
    return found
