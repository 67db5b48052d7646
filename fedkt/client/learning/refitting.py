"""What a model learns that is fitted anew each time: private rows, and what the newest teacher says beside.

It remembers nothing, so training and digestion are the same fit: to private rows with their labels and to the
teacher's rows with its probabilities (:mod:`fedkt.models.estimators.refit` says why that is cross entropy).
"""

from dataclasses import replace

import torch
from torch import Tensor

from fedkt.client.behaviour import Arrays, Client, Fit, Forward


def taught(behaviour: Client, teacher: Arrays | None, weight: float) -> Fit | None:
    """Return the one phase that teaches private rows and a teacher (None: there is none yet).

    ``weight``: what all rows of the teacher's count together, as a multiple of what all private rows do. Rows
    of the phase: ``x``, ``probability`` [n, classes], ``weight`` [n], 1 for each private row. None where the
    behaviour trains on nothing.
    """
    training = behaviour.train(teacher)
    if training is None:
        return None
    holding = behaviour.holding
    x, y = training.rows["x"], training.rows["y"]
    own = torch.nn.functional.one_hot(y, holding.dims.classes).float()
    rows = {"x": x, "probability": own, "weight": torch.ones(len(y), device=x.device)}
    digestion = None if teacher is None else behaviour.digest(teacher)
    if digestion is not None and digestion.size:
        target = digestion.rows["target"]
        even = torch.ones(digestion.size, device=x.device)
        counts = digestion.rows.get("weight", even) * (weight * len(y) / digestion.size)
        theirs = {
            "x": digestion.rows["x"],
            "probability": (target / holding.settings["temperature"]).softmax(-1),
            "weight": counts,
        }
        rows = {name: torch.cat([rows[name], theirs[name]]) for name in rows}
    return replace(training, rows=rows, loss=cross_entropy)


def cross_entropy(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return the cross entropy [B] to ``batch['probability']`` [B, classes], times ``batch['weight']`` [B].

    >>> even = lambda x: (x, torch.zeros(1, 2))
    >>> batch = {"x": torch.zeros(1, 2), "probability": torch.tensor([[0.5, 0.5]]), "weight": torch.ones(1)}
    >>> cross_entropy(even, batch, {})  # ln 2
    tensor([0.6931])
    """
    _, logits = net(batch["x"])
    return -batch["weight"] * (batch["probability"] * logits.log_softmax(-1)).sum(-1)
