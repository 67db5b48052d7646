"""What an audited run releases, round by round, in the form that attacks read.

What the attacker knows beside it is what differential privacy grants it: every private record but the coins,
and, where training is part of the claim or features are public, or where nothing is claimed, the model that
features are made with. Where a mode puts its noise on what is sent alone (``logit_gauss``), the model is not
part of the claim, and the attacker has the initial one, which the scenario's seed makes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.mean_features import class_counts
from fedkt.client.state import StateStore
from fedkt.client.training import predict
from fedkt.data import Federation
from fedkt.data.federation import Shard
from fedkt.distill.embedding import Embedding
from fedkt.engine.world.world import World
from fedkt.knowledge.contrast import FeatureRows
from fedkt.knowledge.contributions import Contributions
from fedkt.knowledge.kinds import Alignment, ClassLogits, Prototypes, Weights
from fedkt.models.net import Net
from fedkt.privacy import mechanisms
from fedkt.privacy.attacks.scores import Answers, Floats, Places, Released, Rows, Sums
from fedkt.privacy.modes import LogitGauss, ProtoGauss
from fedkt.privacy.protection import rows_of
from fedkt.strategy.base import Strategy


@dataclass(frozen=True)
class Round:
    """What a round released: ``released`` by the form that is attacked, the one that decides first."""

    number: int
    clients: tuple[str, ...]
    released: tuple[Released, ...]

    @property
    def answers(self) -> Answers | None:
        """Its answers about rows, None where there are none."""
        return next((one for one in self.released if isinstance(one, Answers)), None)


def watch(strategy: Strategy, read: Callable[[int, Contributions], Round]) -> list[Round]:
    """Note what the attacker sees of each round: contributions, or at a trusted server what leaves it."""
    seen: list[Round] = []
    opened = strategy.course.open

    def note(server_round: int, contributions: Contributions) -> Contributions | None:
        found = opened(server_round, contributions)
        if found is not None:
            seen.append(read(server_round, found))
        return found

    vars(strategy.course)["open"] = note
    return seen


class Reader:
    """Reads what a client with canaries released.

    ``labels`` [canaries]: the planted ones; ``base``: how many of the client's rows, its first ones, are no
    canaries; canaries are the first rows of the transfer set, or of the common test set without one.
    """

    def __init__(self, world: World, store: StateStore, target: str, labels: Places, base: int) -> None:
        self.world, self.store, self.target = world, store, target
        self.labels, self.base = labels, base

    def __call__(self, number: int, contributions: Contributions) -> Round:
        """Return what a round's contributions release."""
        sent = self.world.behaviour.sends
        found: tuple[Released, ...]
        if "weights" in self.world.strategy.shares:
            found = (self._weights(contributions),)
        elif sent in (Prototypes, ClassLogits):
            found = (self._means(number, contributions),)
        elif sent is FeatureRows:
            found = (self._rows(number, contributions),)
        elif sent is Alignment:
            moments = (self._moments(number, contributions),) if "source" in contributions.arrays else ()
            votes = (self._answers(contributions),) if self._predictions(contributions) is not None else ()
            found = (*moments, *votes)
        else:
            found = (self._answers(contributions),)
        return Round(number, contributions.clients, found)

    # Predictions -----------------------------------------------------------------------------------------

    def _predictions(self, contributions: Contributions) -> Floats | None:
        """Return predictions [clients, rows, classes] that were sent: votes as ones, silence as unsure."""
        classes = self.world.federation.classes
        if "values" in contributions.arrays:
            values = _numbers(contributions.values)
            silent = (values == 0).all(-1)
            return np.where(silent[..., None], 1 / classes, values) if silent.any() else values
        if "labels" in contributions.arrays:
            ones: Floats = np.eye(classes)[contributions.arrays["labels"].numpy()]
            return ones
        return None

    def _answers(self, contributions: Contributions) -> Answers:
        values = self._predictions(contributions)
        assert values is not None
        rows = np.arange(values.shape[1]) if contributions.rows is None else contributions.rows.numpy()
        rows = rows.astype(np.int64)
        places = np.flatnonzero(rows < len(self.labels))
        density = contributions.arrays.get("density")
        return Answers(
            values,
            self._own(contributions),
            rows[places],
            places.astype(np.int64),
            self._looks[rows],
            None if density is None else _numbers(density),
        )

    def _weights(self, contributions: Contributions) -> Answers:
        """Ask the models that were sent about the canaries."""
        said = []
        for client in contributions.clients:
            net, prefix = self.world.net(client), Weights.PREFIX
            arrays = contributions.of(client)
            held = {n.removeprefix(prefix): t for n, t in arrays.items() if n.startswith(prefix)}
            net.load_state_dict(held, strict=False)
            said.append(_numbers(_predicted(net, self._canaries)[1]))
        every = np.arange(len(self.labels))
        return Answers(np.stack(said), self._own(contributions), every, every)

    # Sums and rows ---------------------------------------------------------------------------------------

    def _means(self, number: int, contributions: Contributions) -> Sums:
        """Return sums per class with their counts, which :meth:`_told` says how noisy they are."""
        classes, mode = self.world.federation.classes, self.world.mode
        arrays = contributions.of(self._name(contributions))
        net, clip = self._net(number), self.world.scenario.privacy.clip

        def made(x: Tensor) -> Floats:
            features, logits = _predicted(net, x)
            means = self.world.behaviour.sends is ClassLogits
            rows = _numbers(logits.softmax(-1) if means else features)
            if isinstance(mode, ProtoGauss):
                rows = mechanisms.clip_rows(rows, 1.0 if means else clip)
            return rows

        x, y = self._known
        parts, others = made(self._canaries), made(x)
        known = np.zeros((classes, others.shape[1]))
        np.add.at(known, y.numpy(), others)
        held = _numbers(class_counts(y, classes))
        told, noise = _numbers(arrays["values"]), np.zeros(classes)
        if isinstance(mode, LogitGauss):
            return self._of_means(told, known, held, parts)
        counts = _numbers(arrays["counts"])
        weight = 1.0
        if isinstance(mode, ProtoGauss):
            weight = 1.0 if self.world.behaviour.sends is ClassLogits else clip
            deviation = mechanisms.of_sums_and_counts(weight, weight, "add/remove")
            noise = np.full(classes, self.world.costs(self.target).noise * deviation)
        sums = told * np.maximum(counts, 1)[:, None] * (counts > 0)[:, None]
        beside = np.concatenate([sums - known, weight * (counts - held)[:, None]], 1)
        parts = np.concatenate([parts, np.full((len(parts), 1), weight)], 1)
        return Sums(beside, parts, self.labels, noise)

    def _of_means(self, told: Floats, known: Floats, held: Floats, parts: Floats) -> Sums:
        """Return means whose counts nobody knows: k · mean - known = Σ c (part - mean), k of known rows."""
        half = np.bincount(self.labels, minlength=len(told)) / 2
        noise = (held + half) * self._deviation
        return Sums(told * held[:, None] - known, parts - told[self.labels], self.labels, noise)

    def _moments(self, number: int, contributions: Contributions) -> Sums:
        """Return the mean embedding of private rows, of which nobody says how many there are."""
        settings, net = self.world.settings, self._net(number)
        width = self.world.dims(self.target).width
        kind, numbers = settings["embedding"], settings["numbers"]
        embed = Embedding(width, kind, numbers, tuple(settings["bandwidths"]))
        told = _numbers(contributions.of(self._name(contributions))["source"])[None]
        parts, others = (_numbers(embed(_predicted(net, x)[0])) for x in (self._canaries, self._known[0]))
        noise = np.full(1, (len(others) + len(parts) / 2) * self._deviation)
        groups = np.zeros(len(parts), np.int64)
        return Sums(told * len(others) - others.sum(0), parts - told, groups, noise)

    @property
    def _deviation(self) -> float:
        """Standard deviation of the noise on each number that is sent, 0 without any."""
        if not isinstance(self.world.mode, LogitGauss):
            return 0.0
        rows = rows_of(self.world.full_contribution(self.target))
        clip = self.world.scenario.privacy.clip
        return self.world.costs(self.target).noise * mechanisms.of_rows(clip, rows)

    def _rows(self, number: int, contributions: Contributions) -> Rows:
        arrays = contributions.of(self._name(contributions))
        # Noise leaves no labels.
        noisy = isinstance(self.world.mode, LogitGauss)
        labels = None if noisy else arrays["labels"].numpy().astype(np.int64)
        looks = _numbers(_predicted(self._net(number), self._canaries)[0])
        return Rows(_numbers(arrays["features"]), labels, looks)

    # What the attacker knows -----------------------------------------------------------------------------

    def _own(self, contributions: Contributions) -> int:
        clients = contributions.clients
        return clients.index(self.target) if self.target in clients else 0

    def _name(self, contributions: Contributions) -> str:
        return contributions.clients[self._own(contributions)]

    def _net(self, number: int) -> Net:
        """Return the model that the attacker makes features with."""
        net, mode = self.world.net(self.target), self.world.mode
        if mode is None or mode.unit == "record":
            state = self.store.load(self.target, 2 * number + 1)
            assert state is not None
            net.load_state_dict(state.part("model"))
        return net

    @cached_property
    def _canaries(self) -> Tensor:
        return canary_rows(self.world.federation, self._shard)[: len(self.labels)]

    @cached_property
    def _known(self) -> tuple[Tensor, Tensor]:
        x, y = self.world.federation.tensors(self._shard)
        return x[: self.base], y[: self.base]

    @cached_property
    def _looks(self) -> Floats:
        """Return the transfer rows as they are, or as the initial model sees what are no real numbers."""
        rows = self.world.federation.server_tensors()[0]
        assert rows is not None
        if not rows.is_floating_point():
            rows = _predicted(self.world.net(self.target), rows)[0]
        return _numbers(rows.flatten(1))

    @property
    def _shard(self) -> Shard:
        return self.world.shards[self.target]


def canary_rows(federation: Federation, shard: Shard) -> Tensor:
    """Return the rows whose first ones are canaries, as a client sees them."""
    if federation.transfer is not None:
        return federation.transfer_tensor(shard)
    return federation.test_tensors(shard)[0]


def _predicted(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return predict(net, x)


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()
