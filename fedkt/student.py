"""A model of the server's own: it sees no private row, only what the clients' knowledge comes to."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fedkt import models, registry
from fedkt.client import Fit, Steps, distillation
from fedkt.distill.losses import as_logits
from fedkt.rng import seed_of
from fedkt.trained import Trained

if TYPE_CHECKING:
    from fedkt.data.dataset import InputSpec
    from fedkt.scenario import Scenario


def build(spec: Any, input: "InputSpec", classes: int, seed: int) -> Trained:
    """Build the server's own model with its initial weights."""
    return Trained(models.build(spec, input, classes, seed_of(seed, "model", "server")), "server")


def lesson(x: Tensor, values: Tensor, settings: Mapping[str, Any], steps: Steps, *, logits: bool) -> Fit:
    """Return distillation from teachers to the server's model, by the loss that clients distil with.

    ``x`` [rows, ...]; ``values`` [rows, classes]: what was fused about them; ``logits``: whether these are
    logits, else probabilities, of which rows of zeros are unknown and left out; ``settings``: those of the
    client half.
    """
    temperature = settings["temperature"]
    if not logits:
        known = values.sum(-1) > 0
        x, values = x[known], as_logits(values[known], temperature)
    loss = partial(distillation, loss=registry.find("losses", settings["loss"]), temperature=temperature)
    return Fit("distill", {"x": x, "target": values}, loss, steps)


def steps_of(scenario: "Scenario") -> Steps:
    """Return how the server's model is trained: as the scenario says, else as the clients distil."""
    clients, server = scenario.clients, scenario.server_model
    return Steps.distill((server and server.distill) or clients.distill, clients.local)
