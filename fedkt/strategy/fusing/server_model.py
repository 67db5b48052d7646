"""Models that the server trains: they see no private row, only what the clients' knowledge comes to."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fedkt import models, registry
from fedkt.client.behaviour import Fit, Steps, distillation
from fedkt.client.learning.learner import learner_of
from fedkt.client.training import OptimState, all_finite, one_thread
from fedkt.errors import Diverged, InputError
from fedkt.rng import seed_of
from fedkt.tasks import CLASSIFICATION, Task

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec
    from fedkt.scenario import Scenario


class Trained:
    """A module and the state of its optimiser, which goes on from round to round.

    ``name`` tells its random streams from those of others.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module
        self.name = name
        self._optimizer: OptimState = {}

    def fit(self, phase: Fit, seed: int, round_: int) -> None:
        """Train through one phase, in place. Raises Diverged where the model is not finite after it."""
        with one_thread():
            state = self._optimizer
            how: dict[str, Any] = {"seed": seed, "client": self.name, "round_": round_}
            self._optimizer = learner_of(self.module).fit(phase, state, **how)
        if not all_finite(self.module.state_dict().values()):
            name = self.name.partition(" ")[0]
            what = f"the server's model '{name}' is no longer finite after training in round {round_}"
            raise Diverged(what, rate=phase.steps.lr)

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        with one_thread():
            return learner_of(self.module).predict(x)[1]

    def state(self, prefix: str = "") -> dict[str, Tensor]:
        """Return parameters, running statistics and optimiser by name."""
        model = {f"{prefix}model|{n}": t.detach().clone() for n, t in self.module.state_dict().items()}
        return model | {f"{prefix}optimizer|{n}": t for n, t in self._optimizer.items()}

    def load(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        """Restore what :meth:`state` returned."""
        self.module.load_state_dict(_part(tensors, f"{prefix}model|"))
        self._optimizer = _part(tensors, f"{prefix}optimizer|")


def build(spec: Any, input: "InputSpec", classes: int, seed: int) -> Trained:
    """Build the server's own model with its initial weights. Raises InputError where it is an estimator."""
    net = models.build(spec, input, classes, seed_of(seed, "model", "server"))
    if net.refits:
        raise InputError(
            "the server's model is an estimator, but it learns from round to round; name a net, such as mlp."
        )
    return Trained(net, "server")


def lesson(
    x: Tensor,
    values: Tensor,
    settings: Mapping[str, Any],
    steps: Steps,
    *,
    logits: bool,
    task: Task = CLASSIFICATION,
) -> Fit:
    """Return distillation from teachers to the server's model, by the loss and temperature in the settings.

    ``x`` [rows, ...]; ``values`` [rows, classes]: what was fused about them; ``logits``: whether these are
    logits, else probabilities, of which rows of zeros are unknown and left out; ``settings``: see
    :func:`lesson_settings`.
    """
    temperature = settings["temperature"]
    if not logits:
        known = values.sum(-1) > 0
        x, values = x[known], task.heard(values[known], "probabilities", temperature)
    loss = partial(distillation, loss=registry.find("losses", settings["loss"]), temperature=temperature)
    return Fit("distill", {"x": x, "target": values}, loss, steps)


def steps_of(scenario: "Scenario") -> Steps:
    """Return how the server's model is trained: as the scenario says, else as the clients distil."""
    clients, server = scenario.clients, scenario.server_model
    return Steps.distill((server and server.distill) or clients.distill, clients.local)


def lesson_settings(scenario: "Scenario", settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the client half with the loss and temperature of ``server_model.distill``."""
    own = scenario.server_model.distill if scenario.server_model is not None else None
    told = {} if own is None else {"loss": own.loss, "temperature": own.temperature}
    return {**settings, **{key: value for key, value in told.items() if value is not None}}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
