"""What a teacher asks of a model against its private rows, taken off (``clients.distill.project``).

Where the gradient of the private loss and that of distillation point away from each other in a layer, the
part of the second that undoes the first is taken off. The condition is that of Lin, Yang, Fan, Zhang 2022,
"Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer" (CUBER), NeurIPS, arXiv
2211.00789: two gradients agree where their cosine is above a threshold. The projection is that of Yu et al.
2020 (PCGrad), arXiv 2001.06782. What differs from CUBER: its gradients are of tasks, and old ones are known
by stored subspaces; here both are at hand in each joint step, and nothing is stored.
"""

import torch
from torch import Tensor


def reconciled(private: Tensor, taught: Tensor, least: float) -> Tensor:
    """Return the gradient of distillation of one layer, projected where it conflicts with the private one.

    ``private``, ``taught``: of one shape; ``least``: the cosine in [-1, 1] from which on they agree. What is
    left is at right angles to the private gradient; where they point the same way, it is not touched.

    >>> reconciled(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 3.0]), 0.0)
    tensor([0., 3.])
    >>> reconciled(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 3.0]), 0.0)
    tensor([2., 3.])
    """
    along, size = (private * taught).sum(), private.square().sum()
    length = size.sqrt() * taught.norm()
    conflict = (along < least * length) & (along < 0) & (size > 0)
    return torch.where(conflict, taught - along / size.clamp_min(1e-30) * private, taught)
