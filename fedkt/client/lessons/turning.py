"""What a client holds while one of several tasks is its own (``data.tasks``)."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedkt.client.behaviour import Holding
from fedkt.tasks import Task


def narrowed(holding: Holding, held: NDArray[np.bool_], task: Task) -> Holding:
    """Return a holding of some of its private rows, ``held`` [n]; ``task`` says how its classes are
    counted."""
    here = torch.from_numpy(np.flatnonzero(held)).to(holding.y.device)
    y = holding.y[here]
    share = torch.from_numpy(task.frequencies(y.cpu().numpy(), holding.dims.classes)).float()
    return replace(holding, x=holding.x[here], y=y, label_share=share.to(y.device))
