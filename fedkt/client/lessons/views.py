"""Training on turned images whose turn is a part of their label (``clients.local.augment``).

Lee, Hwang, Shin 2020, "Self-supervised Label Augmentation via Input Transformations" (SLA), ICML, arXiv
1910.05872: a second head tells class and turn together, so that turning need not keep a label (a turned 6 is
another joint class than a 9); the model's own head learns what the views together say of the class.

What differs from the paper: the second head is trained beside the model's and never sent, and predictions are
those of the model's own head, from one view.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.client.behaviour import Arrays, Fit, Forward, classification

VIEWS = 4
"""Turns by 0, 90, 180 and 270 degrees."""
HEAD = "views"


def attach(net: nn.Module, width: int, classes: int) -> None:
    """Add the head [classes times views] of joint labels to a model with so many features."""
    net.add_module(HEAD, nn.Linear(width, classes * VIEWS))


def augmented(phase: Fit) -> Fit:
    """Return a phase of training on labels, with views. Raises ValueError where its loss is another one."""
    if phase.loss is not classification:
        raise ValueError("only plain classification can be augmented")
    # A further name says that the loss asks for more than features and logits of ``x`` as they are.
    turned = torch.zeros(phase.size, device=phase.rows["y"].device)
    return replace(phase, rows={**phase.rows, HEAD: turned}, loss=with_views)


def with_views(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return the mean over views of CE(joint, (y, view)), plus CE(own, y), plus KL(P || own) per row [B].

    P: what the views together say (:func:`aggregated`), as a constant.
    """
    x, y = batch["x"], batch["y"]
    weight, bias = net.params[f"{HEAD}.weight"], net.params[f"{HEAD}.bias"]
    _, own = net(x)
    joint = [F.linear(net(torch.rot90(x, j, (-2, -1)))[0], weight, bias) for j in range(VIEWS)]
    losses = [F.cross_entropy(z, y * VIEWS + j, reduction="none") for j, z in enumerate(joint)]
    told = aggregated(torch.stack([z.unflatten(-1, (-1, VIEWS)) for z in joint])).detach()
    log_p = own.log_softmax(-1)
    apart = (torch.special.xlogy(told, told) - told * log_p).sum(-1)
    loss: Tensor = torch.stack(losses).mean(0) + F.nll_loss(log_p, y, reduction="none") + apart
    return loss


def aggregated(joint: Tensor) -> Tensor:
    """Return what the views together say of the class [B, classes], probabilities.

    ``joint`` [views, B, classes, views]: joint logits of each view; softmax over classes of the mean over
    views j of the logits of (class, j) on view j.
    """
    found: Tensor = joint.diagonal(dim1=0, dim2=-1).mean(-1).softmax(-1)
    return found
