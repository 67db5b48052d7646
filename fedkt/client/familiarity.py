"""How familiar transfer rows are to a client: a density ratio by a classifier on its own features.

Sugiyama, Suzuki, Kanamori 2012, "Density Ratio Estimation in Machine Learning", chapter 4: a classifier that
tells rows of p from rows of q, both as frequent, has log p/q as its logit. On features of a model it weighs
clients in federated distillation by Sattler et al. 2021, "FedAUX: Leveraging Unlabeled Auxiliary Data in
Federated Learning", arXiv 2102.02514.

What differs from FedAUX: features are those of the client's own model instead of a common pre-trained one,
and there is no noise, so no guarantee. The client's model has seen its own rows, so the classifier finds
these more easily than others of their kind; the ridge keeps ratios small.
"""

import torch
from torch import Tensor

STEPS = 20
"""Newton's method needs fewer; it stops when a step changes nothing."""
TOLERANCE = 1e-6


def log_ratio(other: Tensor, own: Tensor, ridge: float) -> Tensor:
    """Return log p/q [m] at the rows ``other`` [m, d] of q, where ``own`` [n, d] are rows of p; m, n >= 1.

    The logit of a logistic classifier on features that are standardised by both kinds' means, each kind with
    half of the weight: argmin of the mean loss plus ridge/2 |weights|², the intercept free. ``ridge`` > 0.
    """
    rows = torch.cat([other, own]).double()
    share = torch.cat([rows.new_full((len(part),), 0.5 / len(part)) for part in (other, own)])
    is_own = torch.arange(len(rows), device=rows.device) >= len(other)
    mean = share @ rows
    deviation = (share @ (rows - mean).square()).sqrt()
    z = (rows - mean) / torch.where(deviation > TOLERANCE, deviation, torch.ones_like(deviation))
    z = torch.cat([z, z.new_ones(len(z), 1)], 1)
    penalty = torch.full((z.shape[1],), ridge, dtype=z.dtype, device=z.device)
    penalty[-1] = 0.0
    found = torch.zeros_like(penalty)
    short = z.float()  # the curvature says how far a step goes, not where it ends

    def loss(weights: Tensor) -> Tensor:
        wrong = torch.where(is_own, -1.0, 1.0) * (z @ weights)
        return share @ torch.nn.functional.softplus(wrong) + 0.5 * (penalty * weights.square()).sum()

    for _ in range(STEPS):
        p = (z @ found).sigmoid()
        slope = z.T @ (share * (p - is_own.double())) + penalty * found
        weight = (share * p * (1 - p)).float()
        curve = (short.T @ (short * weight.unsqueeze(1))).double() + torch.diag(penalty + TOLERANCE)
        step = torch.linalg.solve(curve, slope)
        size = 1.0
        while loss(found - size * step) > loss(found) and size > TOLERANCE:  # too far where it is flat
            size /= 2
        found = found - size * step
        if step.abs().max() < TOLERANCE:
            break
    ratio: Tensor = (z[: len(other)] @ found).to(other.dtype)
    return ratio
