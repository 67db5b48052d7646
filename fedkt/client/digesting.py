"""How a client learns what a teacher says of transfer rows, and how much of each row.

With ``clients.distill.weigh`` more of rows like its own: after Nan, Wang, Zhu, Sheng, Shi, Cao 2022,
"Improving Fake News Detection of Influential Domain via Domain- and Instance-Level Transfer" (DITFEND),
COLING, arXiv 2209.08902, which weighs instances of other domains by how likely the target domain's language
model finds them.

What differs from the paper: the step that uses its weights is not published, and there is no language model
here; a row's score is the ratio of two densities, the client's rows' and the transfer rows'
(:class:`fedkt.client.density_ratio.KuLSIF`).
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fedkt import registry
from fedkt.client.behaviour import Arrays, Fit, Forward, Holding, RowLoss, distillation
from fedkt.client.density_ratio import HELD_OUT, KuLSIF
from fedkt.distill.relations import is_coupled
from fedkt.rng import torch_stream

MOST_COMPARED = 500
"""Rows of which distances are taken for the kernel's width: their median."""


def digestion(holding: Holding, x: Tensor, target: Tensor) -> Fit:
    """Return the distillation of logits ``target`` [n, classes] on rows ``x`` [n, ...].

    By the settings ``loss`` and ``temperature``; rows count as the setting ``weigh`` says.
    """
    loss = registry.find("losses", holding.settings["loss"])
    of_rows = partial(distillation, loss=loss, temperature=holding.settings["temperature"])
    rows = {"x": x, "target": target}
    phase = Fit("digest", rows, of_rows, holding.distill, coupled=is_coupled(loss))
    return weighed(phase, holding)


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
