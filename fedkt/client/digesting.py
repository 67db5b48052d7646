"""How a client learns what a teacher says of transfer rows, and how much of each row.

With ``clients.distill.weigh`` more of rows like its own: after Nan, Wang, Zhu, Sheng, Shi, Cao 2022,
"Improving Fake News Detection of Influential Domain via Domain- and Instance-Level Transfer" (DITFEND),
COLING, arXiv 2209.08902, which weighs instances of other domains by how likely the target domain's language
model finds them.

What differs from the paper: the step that uses its weights is not published, and there is no language model
here; a row's score is the ratio of two densities, the client's rows' and the transfer rows'
(:class:`fedkt.client.density_ratio.KuLSIF`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fedkt import registry
from fedkt.client.behaviour import Arrays, Asked, Fit, Forward, Holding, RowLoss, distillation
from fedkt.client.density_ratio import HELD_OUT, KuLSIF
from fedkt.distill.relations import is_coupled, reads
from fedkt.distill.swing import laplace
from fedkt.rng import torch_stream

MOST_COMPARED = 500
"""Rows of which distances are taken for the kernel's width: their median."""


def digestion(holding: Holding, x: Tensor, target: Tensor) -> Fit:
    """Return the distillation of logits ``target`` [n, classes] on rows ``x`` [n, ...].

    By the settings ``loss`` and ``temperature``; rows count as the setting ``weigh`` says.
    """
    loss = registry.find("losses", holding.settings["loss"])
    wanted, temperature = reads(loss), holding.settings["temperature"]
    of_rows = (
        partial(further, loss=loss, temperature=temperature, wanted=wanted)
        if wanted
        else partial(distillation, loss=loss, temperature=temperature)
    )
    rows = {"x": x, "target": target}
    if "held" in wanted:
        rows["held"] = (holding.label_share > 0).expand(len(x), -1)
    if "noise" in wanted:
        rows["noise"] = laplace(*target.shape).to(target)
    back = "before" in wanted and len(x)
    first = (Asked(x, lambda features, logits: {"before": logits}),) if back else ()
    phase = Fit("digest", rows, of_rows, holding.distill, coupled=is_coupled(loss), first=first)
    return weighed(phase, holding)


def further(
    net: Forward,
    batch: Arrays,
    constants: Arrays,
    *,
    loss: Callable[..., Tensor],
    temperature: float,
    wanted: Sequence[str],
) -> Tensor:
    """Return a distillation loss [B] that reads more of a row: those of the batch's that are ``wanted``."""
    _, logits = net(batch["x"])
    return loss(logits, batch["target"], temperature, **{name: batch[name] for name in wanted})


def self_training(holding: Holding, x: Tensor, target: Tensor) -> Fit:
    """Return training of a client without labels on its own rows, by what a teacher says of others.

    ``x`` [n, ...], ``target`` probabilities [n, classes]: the transfer rows that the teacher speaks about and
    what it says. As the phase begins they give each class a prototype in the client's own features, and its
    own rows beliefs (:func:`believed`) that they are trained on.
    """
    many = len(x)

    def rows(features: Tensor, logits: Tensor) -> Arrays:
        centres = prototypes_of(features[:many], target)
        return {"believed": believed(features[many:], logits[many:].softmax(-1), centres)}

    first = (Asked(torch.cat([x, holding.x]), rows),)
    return Fit("train", {"x": holding.x}, by_belief, holding.local, private=True, first=first)


def prototypes_of(features: Tensor, target: Tensor) -> Tensor:
    """Return each class's prototype [classes, width]: the mean of features [n, width] by ``target``.

    ``target`` [n, classes]: probabilities; that of a class without any is the mean of all.
    """
    share = target / target.sum(0).clamp_min(1e-12)
    share = torch.where(target.sum(0) > 1e-6, share, 1 / max(len(target), 1))
    return share.T @ features


def believed(features: Tensor, own: Tensor, prototypes: Tensor) -> Tensor:
    """Return what a client without labels is to believe of rows [n, classes]: rows that sum to one.

    In proportion to softmax(-|z - c|) over the prototypes c [classes, width] nearest to its features z
    [n, width], times its own predictions ``own`` [n, classes]: who is near a class and thought to be of it.

    After Ge, Hu et al. 2023, "ProKD: An Unsupervised Prototypical Knowledge Distillation Network for
    Zero-Resource Cross-Lingual Named Entity Recognition", AAAI, arXiv 2301.08855: soft labels by distances to
    prototypes, and self-training on them. What differs: nothing but the teacher's answers crosses the wire,
    so prototypes are those of transfer rows in the client's own features, and no contrastive loss pulls them
    apart. GLC (Qu et al. 2023, arXiv 2303.07110), for parties whose classes differ too, clusters instead.
    """
    near = (-torch.cdist(features, prototypes)).softmax(-1) * own
    return near / near.sum(-1, keepdim=True).clamp_min(1e-12)


def by_belief(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return the cross entropy [B] of the model to ``batch['believed']`` [B, classes]."""
    _, logits = net(batch["x"])
    return -(batch["believed"] * logits.log_softmax(-1)).sum(-1)


def likeness(x: Tensor, own: Tensor, seed: int, client: str) -> Tensor:
    """Return how much rows ``x`` [n, ...] look like rows ``own`` [m, ...], m >= 2: weights [n] of mean 1.

    min(1, ratio / median of the ratios of held-out own rows), divided by their mean; a density is not below
    0. All alike where no row resembles the client's, or where own rows are all the same.
    """
    flat, rows = x.flatten(1).float(), own.flatten(1).float()
    rows = rows[torch.randperm(len(rows), generator=torch_stream(seed, "likeness", client)).to(rows.device)]
    held = max(1, round(HELD_OUT * len(rows)))
    both = torch.cat([rows[:MOST_COMPARED], flat[:MOST_COMPARED]])
    width = torch.pdist(both).median()
    even = torch.ones(len(flat), device=flat.device)
    if len(rows) < 2 or not width > 0:
        return even
    ratio = KuLSIF(rows[held:], flat, float(width), len(flat) ** -0.5)
    usual = ratio(rows[:held]).median()
    weights = (ratio(flat) / usual).clamp(0, 1) if usual > 0 else torch.zeros_like(even)
    mean = weights.mean()
    return weights / mean if mean > 0 else even


def weighed(phase: Fit, holding: Holding) -> Fit:
    """Return a phase of distillation whose rows count by their likeness, where the scenario asks for it."""
    if not holding.settings.get("weigh") or not phase.size:
        return phase
    weights = likeness(phase.rows["x"], holding.x, holding.seed, holding.client)
    return replace(phase, rows={**phase.rows, "weight": weights}, loss=partial(times_weight, loss=phase.loss))


def times_weight(net: Forward, batch: Arrays, constants: Arrays, *, loss: RowLoss) -> Tensor:
    """Return a loss [B] times ``batch['weight']`` [B]."""
    return batch["weight"] * loss(net, batch, constants)
