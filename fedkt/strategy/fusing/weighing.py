"""How much each client has to say about each row: weights [clients, rows] that sum to one over clients.

Whoever's rows are likelier where the row lies knows more of it. With p_k(x) the density of client k's rows,
the posterior of all clients' rows together is exactly sum_k n_k p_k(x) p_k(y|x) / sum_k n_k p_k(x), the
distribution-weighted combination of Mansour, Mohri, Rostamizadeh 2008, "Domain Adaptation with Multiple
Sources", NeurIPS.
"""

import torch
from torch import Tensor, nn

from fedkt.client.training import predict

SMALLEST = 1e-6
DRAWS = 16
"""Models of noise alone."""


def by_density(log_ratio: Tensor) -> Tensor:
    """Return weights from log p_k/q [clients, rows], each within ±20, q the density of transfer rows.

    A density ratio has mean 1 over rows of q, so each client's ratios are divided by their mean: whoever
    claims to know every row best then says no more than one who claims none.
    """
    ratio = log_ratio.softmax(1)  # over their sum in place of their mean: as many rows for all clients
    weights: Tensor = ratio.div_(ratio.sum(0))
    return weights


def by_energy(energy: Tensor, sharpness: float) -> Tensor:
    """Return weights from energies [clients, rows]: softmax over clients of standardised energies.

    The energy log sum_c exp(logit_c) (of classes; :meth:`fedkt.tasks.Task.energy`) is, up to a constant, the
    log density that a classifier implies: Grathwohl et al. 2020, "Your classifier is secretly an energy based
    model", arXiv 1912.03263; by it rows that a model does not know are found by Liu et al. 2020,
    "Energy-based out-of-distribution detection", arXiv 2010.03759. Its scale means nothing across models, so
    it is brought to mean 0 and deviation 1 over rows per client; ``sharpness`` >= 0 multiplies it.
    """
    centred = energy - energy.mean(1, keepdim=True)
    deviation = centred.square().mean(1, keepdim=True).sqrt().clamp_min(SMALLEST)
    weights: Tensor = (sharpness * centred / deviation).softmax(0)
    return weights


@torch.no_grad()
def noise_alone(net: nn.Module, x: Tensor, deviation: float, stream: torch.Generator) -> Tensor:
    """Return outputs [draws, rows, outputs] of an initial model with noise of this deviation on its weights.

    About what clients with the same data differ by after private training. Model, rows ``x`` and noise are
    public, so this costs no privacy.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    start, found = [p.clone() for p in trained], []
    for _ in range(DRAWS):
        for p, first in zip(trained, start, strict=True):
            p.copy_(first + deviation * torch.randn(p.shape, generator=stream))
        found.append(predict(net, x)[1])
    for p, first in zip(trained, start, strict=True):
        p.copy_(first)
    return torch.stack(found)
