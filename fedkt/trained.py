"""A model that a strategy trains on the server, with what a checkpoint needs of it."""

from collections.abc import Mapping

from torch import Tensor, nn

from fedkt.client import Fit
from fedkt.training import OptimState, fit, one_thread, predict


class Trained:
    """A module and the state of its optimiser, which goes on from round to round.

    ``name`` tells its random streams from those of others.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module
        self.name = name
        self._optimizer: OptimState = {}

    def fit(self, phase: Fit, seed: int, round_: int) -> None:
        """Train through one phase, in place."""
        with one_thread():
            state = self._optimizer
            self._optimizer = fit(self.module, phase, state, seed=seed, client=self.name, round_=round_)

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        with one_thread():
            return predict(self.module, x)[1]

    def state(self, prefix: str = "") -> dict[str, Tensor]:
        """Return parameters and optimiser by name."""
        model = {f"{prefix}model|{n}": p.detach().clone() for n, p in self.module.named_parameters()}
        return model | {f"{prefix}optimizer|{n}": t for n, t in self._optimizer.items()}

    def load(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        """Restore what :meth:`state` returned."""
        self.module.load_state_dict(_part(tensors, f"{prefix}model|"))
        self._optimizer = _part(tensors, f"{prefix}optimizer|")


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
