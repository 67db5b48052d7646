"""pfl (Apple's pfl-research), a peer that simulates in one process; only where it is installed."""

import importlib.util
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.engine import work


def installed() -> bool:
    """Say whether pfl can be imported."""
    return importlib.util.find_spec("pfl") is not None


class Trained(nn.Module):
    """A model of the benchmark with the loss that pfl asks a module for."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net = work.net(kind)

    def loss(self, x: Tensor, y: Tensor, eval: bool = False) -> Tensor:
        """Return the mean cross entropy of a batch."""
        self.net.train(not eval)
        return nn.functional.cross_entropy(self.net(x)[1], y)

    def metrics(self, x: Tensor, y: Tensor, eval: bool = False) -> dict[str, Any]:
        """Measure nothing."""
        return {}


def rounds(kind: str, number: int) -> list[float]:
    """Run federated averaging on the benchmark's work; return the seconds of each round but the first."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    ends: list[float] = []

    class Clock(TrainingProcessCallback):  # type: ignore[misc]
        def after_central_iteration(self, *_: Any, **__: Any) -> tuple[bool, Metrics]:
            ends.append(time.perf_counter())
            return False, Metrics()

    shards = work.shards()
    asked = iter([client for k in range(1 + number) for client in work.sample(k)] * 2)
    data = FederatedDataset(lambda client: Dataset(raw_data=list(shards[client])), lambda: next(asked))
    module = Trained(kind)
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(1 + number, 1 + number, work.A_ROUND, None),
        SimulatedBackend(training_data=data, val_data=data),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=work.RATE, local_batch_size=work.BATCH),
        NNEvalHyperParams(local_batch_size=work.ROWS),
        callbacks=[Clock()],
    )
    return [b - a for a, b in pairwise(ends)]
