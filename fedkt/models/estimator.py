"""An estimator in the place of a net: features are the rows as they are, the head is what was fitted.

So all that reads a model's features and logits reads an estimator's: strategies that compare clients by their
features compare the inputs, which are standardised where ``data.standardise`` says so.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Fit
from fedkt.client.learning.learner import Learner
from fedkt.client.training import OptimState
from fedkt.errors import InputError
from fedkt.models.estimators.refit import Estimator, Fitted, probabilities, refit
from fedkt.models.estimators.sklearn_like import SklearnLike
from fedkt.models.estimators.tryout import tried
from fedkt.models.net import Net
from fedkt.rng import seed_of

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

_STATE = ("model", "trees", "classes", "learned")
"""The arrays of bytes that a fit is written as; all are empty before the first."""
_MOST_KEPT = 512 * 2**20
"""Bytes of state whose fits a process keeps at hand; the newest is kept in any case."""
_tried: set[Any] = set()
"""What this process tried on made rows."""
_kept: "OrderedDict[bytes, tuple[Fitted, dict[str, Tensor]]]" = OrderedDict()
"""Fits of this process and their state by what they learned: reading a forest takes longer than asking it."""


class Head(nn.Module):
    """An estimator, and what was fitted: ``head(rows [B, d]) -> logarithms of probabilities [B, classes]``.

    Its state is bytes (uint8) by the names in ``_STATE``, of any length.
    """

    def __init__(self, estimator: Estimator, classes: int) -> None:
        super().__init__()
        self.estimator = estimator
        self.classes = classes
        self._fitted: Fitted | None = None
        self._state = {name: torch.zeros(0, dtype=torch.uint8) for name in _STATE}

    def forward(self, z: Tensor) -> Tensor:
        rows = z.detach().cpu().numpy()
        found = probabilities(self.estimator, self._fitted, rows, self.classes)
        return torch.from_numpy(np.log(found)).float().to(z.device)

    def learn(self, x: Tensor, probability: Tensor, weight: Tensor, seed: int) -> None:
        """Fit anew to rows [n, d] with probabilities [n, classes] and weights [n]; not if that was done."""
        rows, shares, counts = (part.detach().cpu().numpy() for part in (x, probability, weight))
        digest = hashlib.blake2b(f"{self.estimator.described}|{self.classes}|{seed}".encode(), digest_size=16)
        for array in (rows, shares, counts):
            digest.update(np.ascontiguousarray(array).data)
        learned = digest.digest()
        if self._state["learned"].numpy().tobytes() == learned:
            return
        if learned in _kept:
            self._fitted, self._state = _kept[learned]
            return
        self._fitted = refit(self.estimator, rows, shares, counts, seed)
        self._state = {
            **_written(self.estimator, self._fitted),
            "learned": torch.frombuffer(bytearray(learned), dtype=torch.uint8),
        }
        self._keep()

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Be what a state of this process or another one holds. Raises ValueError where it is damaged."""
        learned = state["learned"].cpu().numpy().tobytes()
        if learned in _kept:
            _kept.move_to_end(learned)
            self._fitted, self._state = _kept[learned]
            return
        self.read(state)
        if learned:
            self._keep()

    def read(self, state: Mapping[str, Tensor]) -> None:
        """Read a state, whatever this process has at hand. Raises ValueError where it is damaged."""
        self._state = {name: state[name].detach().cpu().contiguous() for name in _STATE}
        if not len(self._state["learned"]):
            self._fitted = None
            return
        held = {name: part.numpy() for name, part in self._state.items()}
        if not held["classes"].size or held["classes"].size % 8:
            raise ValueError("it knows no classes")
        classes = held["classes"].view(np.int64)
        if (np.diff(classes) <= 0).any() or classes[0] < 0 or classes[-1] >= self.classes:
            raise ValueError("it knows other classes than the data have")
        model = None if len(classes) == 1 else self.estimator.read(held)
        self._fitted = Fitted(classes.copy(), model)

    def _keep(self) -> None:
        assert self._fitted is not None
        _kept[self._state["learned"].numpy().tobytes()] = self._fitted, self._state
        while len(_kept) > 1 and sum(_size(state) for _, state in _kept.values()) > _MOST_KEPT:
            _kept.popitem(last=False)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, tensor in self._state.items():
            destination[prefix + name] = tensor

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing = [prefix + name for name in _STATE if prefix + name not in state_dict]
        missing_keys += missing
        if missing:
            return
        try:
            self.read({name: state_dict[prefix + name] for name in _STATE})
        except ValueError as error:
            error_msgs.append(f"{self.estimator.label}: {error}")


class EstimatorNet(Net):
    """Rows as they are [B, d], and the estimator's logarithms of probabilities."""

    refits = True
    head: Head

    def __init__(self, estimator: Estimator, input: "InputSpec", classes: int) -> None:
        if input.kind == "tokens":
            raise InputError(
                f"model {estimator.label!r} takes tabular, sparse or image rows, but the data set has tokens"
                " rows; data.kind (table, tokens or text) decides what rows are read as."
            )
        super().__init__(nn.Flatten(), Head(estimator, classes), prod(input.shape))

    def as_learner(self) -> Learner:
        """Return what trains and predicts with it."""
        return AtOnce(self)


class AtOnce(Learner):
    """An estimator at work: a phase is one fit to all of its rows."""

    def __init__(self, net: EstimatorNet) -> None:
        self._net = net

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state; what this process fitted itself is not read again."""
        self._net.head.take({name: tensors[f"head.{name}"] for name in _STATE})

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as bytes."""
        return dict(self._net.state_dict())

    def fit(
        self, phase: Fit, state: OptimState, *, seed: int, client: str, round_: int, losses: Any = None
    ) -> OptimState:
        """Fit to the rows of a phase: labelled (``y``), or with probabilities and weights.

        Round and name of the phase make no difference, so that the same rows give the same model.
        """
        x = phase.rows["x"].flatten(1)
        if "probability" in phase.rows:
            probability, weight = phase.rows["probability"], phase.rows["weight"]
        else:
            probability = nn.functional.one_hot(phase.rows["y"], self._net.head.classes).float()
            weight = torch.ones(len(x))
        if len(x):
            self._net.head.learn(x, probability, weight, seed_of(seed, "estimator", client) % 2**31)
        return {}

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows [n, d] and logits [n, classes], all at once: many calls cost more than many rows."""
        features, logits = self._net(x)
        return features, logits


def estimating(
    made: Any, factory: Any, label: str, input: "InputSpec", classes: int, key: Any
) -> EstimatorNet:
    """Return an estimator, or an object in the manner of scikit-learn's, in the place of a net.

    ``key``: what the made object follows from, for which it is tried once in a process. Raises InputError
    where it cannot be fitted, asked, written and read.
    """
    if not isinstance(made, Estimator):
        package = getattr(factory, "__module__", "").partition(".")[0]
        made = SklearnLike(made, label, [package] if package else [])
    net = EstimatorNet(made, input, classes)
    if key not in _tried:
        tried(made, net.width, classes)
        _tried.add(key)
    return net


def _written(estimator: Estimator, fitted: Fitted) -> dict[str, Tensor]:
    nothing = {"model": np.zeros(0, np.uint8), "trees": np.zeros(0, np.uint8)}
    held = nothing if fitted.model is None else estimator.write(fitted.model)
    held = {**held, "classes": fitted.classes.astype(np.int64).view(np.uint8)}
    return {name: torch.from_numpy(np.array(part)) for name, part in held.items()}


def _size(state: Mapping[str, Tensor]) -> int:
    return sum(part.numel() for part in state.values())
