"""What trains and predicts with a client's model, and what of it is kept: one interface for nets and others.

A net learns by steps from where it was (:mod:`fedkt.client.training`); what is fitted to all rows at once
brings a learner of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fedkt.client.behaviour import Fit
from fedkt.client.learning.frozen import features_of, is_frozen
from fedkt.client.training import (
    SIMPLE,
    FixedFeatures,
    Losses,
    OptimState,
    attached,
    fit,
    predict,
    tensors_of,
)


class Learner(ABC):
    """A model at work for whoever's state it holds."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a client's state, which stays as it is."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the state, which no later work changes."""

    @abstractmethod
    def fit(
        self,
        phase: Fit,
        state: OptimState,
        *,
        seed: int,
        client: str,
        round_: int,
        losses: Losses | None = None,
    ) -> OptimState:
        """Go through one phase; return the optimiser's new state. ``losses`` is told those of each step."""

    @abstractmethod
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [n, width] and logits [n, classes] of rows ``x`` [n, ...]."""


class Stepwise(Learner):
    """A net, trained by steps."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the tensors into the net."""
        self.module.load_state_dict(tensors)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the net's tensors; its gradients are given up."""
        self.module.zero_grad(set_to_none=True)
        return tensors_of(self.module)

    def fit(self, phase: Fit, state: OptimState, **how: Any) -> OptimState:
        """Take the phase's steps, on features that are kept where none of them is trained."""
        simple = set(phase.rows) <= SIMPLE and not attached(self.module)
        if phase.count and is_frozen(self.module) and simple:
            rows = {**phase.rows, "x": features_of(self.module, phase.rows["x"])}
            head = FixedFeatures(self.module.get_submodule("head"))
            return fit(head, replace(phase, rows=rows), state, **how)
        return fit(self.module, phase, state, **how)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict in batches."""
        if is_frozen(self.module):
            self.module.eval()
            return predict(FixedFeatures(self.module.get_submodule("head")), features_of(self.module, x))
        return predict(self.module, x)


def learner_of(module: nn.Module) -> Learner:
    """Return what trains and predicts with a module: its own where it brings one."""
    own = getattr(module, "as_learner", None)
    if own is None:
        return Stepwise(module)
    made: Learner = own()
    return made
