"""Hostile clients, for a simulation: wrappers around a client behaviour that do harm in its place.

A wrapper changes what the behaviour holds or what it extracted, never how the engine runs it, and what it
sends still passes every check of the server: it lies within the declared shapes and ranges. Probabilities are
scaled by their logarithms. Sources: reordered logits: Tang et al. 2024, arXiv 2401.03685 (FDLA);
peak-controlled logits: Tang et al. 2024, arXiv 2407.18039 (PCFDLA). Of both only the abstract's description
was at hand, so the formulas are reconstructions.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fedkt.client.behaviour import Arrays, Client, Fit, Holding
from fedkt.errors import InputError
from fedkt.knowledge.codec import Expected, Spec
from fedkt.knowledge.kinds import MOST_DENSE, Answers, Dims, Knowledge
from fedkt.rng import numpy_stream

if TYPE_CHECKING:
    from fedkt.data.federation import Shard
    from fedkt.scenario import Attack

SHARE = 4
"""One in so many clients is hostile where a scenario gives no number."""
SMALLEST = 1e-8
"""Probabilities are clipped here before a logarithm is taken."""


def who_is_hostile(
    attacks: "Sequence[Attack]", shards: "Mapping[str, Shard]", seed: int
) -> "dict[str, Attack]":
    """Return the attack of each hostile client by name; each client has at most one part.

    Raises InputError where a name is unknown, or more clients are wanted than there are.
    """
    found: dict[str, Attack] = {}
    problems: list[str] = []
    for number, attack in enumerate(attacks):
        free = [name for name in shards if name not in found]
        if isinstance(attack.clients, tuple):
            chosen = list(attack.clients)
            problems += [
                f"attacks.{number}.clients names '{name}', which is no client that is free to be hostile; "
                f"there are {', '.join(free)}."
                for name in chosen
                if name not in free
            ]
        elif attack.clients is None and attack.kind == "collude":
            chosen = _majority({name: shards[name] for name in free}, attack.source)
        else:
            count = max(1, len(shards) // SHARE) if attack.clients is None else attack.clients
            if count > len(free):
                problems.append(
                    f"attacks.{number}.clients is {count}, but {len(free)} clients are left; "
                    "it must be at most their number."
                )
                continue
            drawn = numpy_stream(seed, "hostile", number).choice(len(free), count, replace=False)
            chosen = [free[i] for i in sorted(drawn)]
        found |= dict.fromkeys(chosen, attack)
    if problems:
        raise InputError(*problems)
    return found


def _majority(shards: "Mapping[str, Shard]", source: int) -> list[str]:
    """Return the fewest clients that hold more than half of the rows of class ``source``."""
    rows = {name: float(shard.share[source]) * len(shard.rows) for name, shard in shards.items()}
    chosen: list[str] = []
    for name in sorted(rows, key=lambda name: -rows[name]):
        chosen.append(name)
        if sum(rows[c] for c in chosen) > sum(rows.values()) / 2:
            break
    return chosen


def hostile(behaviour: type[Client], holding: Holding, attack: "Attack") -> Client:
    """Return the behaviour of a hostile client."""
    if attack.kind == "none":
        return behaviour(holding)
    if attack.kind == "label-flip":
        return behaviour(replace(holding, y=holding.dims.classes - 1 - holding.y))
    if attack.kind == "echo":
        return Echo(behaviour(holding))
    return Liar(behaviour(holding), attack)


class Wrapper(Client):
    """A behaviour that does what another one does."""

    def __init__(self, inner: Client) -> None:
        self.inner = inner
        # What may leave and enter is the inner one's; the engine compares these.
        vars(self).update(sends=inner.sends, accepts=inner.accepts)
        vars(self).update(decides=inner.decides, decides_own=inner.decides_own)

    @property
    def holding(self) -> Holding:
        """What the inner one holds."""
        return self.inner.holding

    @holding.setter
    def holding(self, held: Holding) -> None:
        self.inner.holding = held

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Not asked for: both ends take it from the behaviour's class."""
        raise NotImplementedError

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Not asked for: both ends take it from the behaviour's class."""
        raise NotImplementedError

    def prepare(self) -> Fit | None:
        """Return the inner one's phase."""
        return self.inner.prepare()

    def digest(self, teacher: Arrays) -> Fit | None:
        """Return the inner one's phase."""
        return self.inner.digest(teacher)

    def adopt(self, teacher: Arrays) -> Arrays | None:
        """Return the inner one's parameters."""
        return self.inner.adopt(teacher)

    def train(self, teacher: Arrays | None) -> Fit | None:
        """Return the inner one's phase."""
        return self.inner.train(teacher)

    def inputs(self, rows: Tensor | None) -> Tensor | None:
        """Return the inner one's inputs."""
        return self.inner.inputs(rows)

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Return the inner one's knowledge."""
        return self.inner.extract(features, logits, params)

    def prior(self) -> Tensor | None:
        """Return the inner one's prior."""
        return self.inner.prior()

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Return the inner one's scores."""
        return self.inner.predictors(features, logits, teacher)


class Echo(Wrapper):
    """A free-rider: it trains nothing and sends the newest teacher back, where that speaks of the same."""

    def __init__(self, inner: Client) -> None:
        super().__init__(inner)
        self._teacher: Arrays = {}
        self._rows: Tensor | None = None

    def train(self, teacher: Arrays | None) -> Fit | None:
        """Remember the teacher and train nothing."""
        self._teacher = teacher or {}
        return None

    def inputs(self, rows: Tensor | None) -> Tensor | None:
        """Remember the rows that are asked for."""
        self._rows = rows
        return super().inputs(rows)

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Put the teacher's values where it has some."""
        knowledge: Any = _here(super().extract(features, logits, params))
        values = getattr(knowledge, "values", None)
        known = self._teacher.get("values")
        if values is None or known is None or known.shape[-1] != values.shape[-1]:
            return super().extract(features, logits, params)
        values = values.copy()
        said = known.cpu().numpy()
        if isinstance(knowledge, Answers):
            total = self.holding.dims.transfer
            asked, about = _ids(self._rows, total), _ids(self._teacher.get("rows"), total)
            place = {int(row): i for i, row in enumerate(about)}
            for i, row in enumerate(asked):
                if int(row) in place:
                    values[i] = said[place[int(row)]]
        else:
            there = self._teacher["counts"].cpu().numpy() > 0
            values[there] = said[there]
        told: Knowledge = replace(knowledge, values=values)
        return told


def _here(knowledge: Knowledge) -> Knowledge:
    """Return knowledge with its arrays on the CPU, where lies are made."""
    values = {f.name: getattr(knowledge, f.name) for f in fields(knowledge)}
    return replace(knowledge, **{n: v.cpu().numpy() for n, v in values.items() if isinstance(v, Tensor)})


def _ids(rows: Tensor | None, total: int) -> np.ndarray:
    return np.arange(total) if rows is None else rows.cpu().numpy()


@dataclass(frozen=True)
class Lie:
    """What a lie may use: values [n, d] as they were extracted, how they are declared, who held them."""

    values: Tensor
    spec: Spec
    attack: "Attack"
    holding: Holding
    by_class: bool
    """Whether the rows are classes, not transfer rows."""

    @property
    def predictions(self) -> bool:
        """Whether a row is a prediction over classes."""
        return self.spec.simplex or not self.by_class

    def stream(self) -> np.random.Generator:
        """Return draws that follow from the values: each round has its own, each repetition the same."""
        content = hashlib.sha256(self.values.numpy().tobytes()).hexdigest()
        return numpy_stream(self.holding.seed, "hostile noise", self.holding.client, content)

    def certain(self, target: Tensor | int, rows: Tensor) -> Tensor:
        """Return ``rows`` replaced by certainty of the class ``target``."""
        low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
        if self.spec.simplex:
            low, high = torch.zeros_like(low), torch.ones_like(high)
        index = torch.as_tensor(target).expand(len(rows)).unsqueeze(-1)
        return low.expand_as(rows).scatter(-1, index, high)


class Liar(Wrapper):
    """A client that trains honestly and sends something else than it knows."""

    def __init__(self, inner: Client, attack: "Attack") -> None:
        super().__init__(inner)
        self.attack = attack

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Replace the values, within what is declared; who sends nothing cannot lie."""
        honest = super().extract(features, logits, params)
        knowledge: Any = _here(honest)
        if not hasattr(knowledge, "values"):
            return honest
        dims = self.holding.dims.about(len(knowledge.values) if isinstance(knowledge, Answers) else 0)
        spec = type(self.inner).contribution(dims, self.holding.settings)["values"]
        counts = getattr(knowledge, "counts", None)
        values = torch.from_numpy(knowledge.values)
        lie = Lie(values, spec, self.attack, self.holding, counts is not None)
        told = LIES[self.attack.kind](lie).clamp(spec.low, spec.high).to(values.dtype)
        if counts is not None:  # of a class that it does not hold it says nothing, as declared
            told = torch.where(torch.from_numpy(counts > 0).unsqueeze(-1), told, values)
        claims = {}
        if self.attack.kind == "claim" and getattr(knowledge, "density", None) is not None:
            claims = {"density": np.full_like(knowledge.density, MOST_DENSE)}
        sent: Knowledge = replace(knowledge, values=told.numpy(), **claims)
        return sent


def scaled(lie: Lie) -> Tensor:
    """Multiply by the factor: logarithms of probabilities, which leaves the likeliest class alone."""
    if lie.spec.simplex:
        return (lie.attack.factor * lie.values.clamp_min(SMALLEST).log()).softmax(-1)
    return lie.values * lie.attack.factor


def reordered(lie: Lie) -> Tensor:
    """Give the likeliest class the value of the least likely one, and so on (FDLA)."""
    ordered, order = lie.values.sort(-1)
    return torch.empty_like(ordered).scatter(-1, order, ordered.flip(-1))


def peaked(lie: Lie) -> Tensor:
    """Be certain of the class that is second likeliest: wrong, but not absurd (PCFDLA)."""
    return lie.certain(lie.values.topk(2, dim=-1).indices[:, 1], lie.values)


def noise(lie: Lie) -> Tensor:
    """Send uniform distributions' draws, or normal ones with the mean and deviation of the values."""
    stream = lie.stream()
    if lie.spec.simplex:
        drawn = stream.dirichlet(np.ones(lie.values.shape[-1]), len(lie.values))
    else:
        mean, deviation = lie.values.mean().item(), lie.values.std().item()
        drawn = stream.normal(mean, deviation if math.isfinite(deviation) else 1.0, tuple(lie.values.shape))
    return torch.from_numpy(drawn)


def claiming(lie: Lie) -> Tensor:
    """Be certain of a class drawn for each row, and claim to know every row as well as can be claimed."""
    classes = lie.values.shape[-1]
    if not lie.predictions:  # of points: those of classes drawn
        return lie.values[lie.stream().integers(0, len(lie.values), len(lie.values))]
    return lie.certain(torch.from_numpy(lie.stream().integers(0, classes, len(lie.values))), lie.values)


def constant(lie: Lie) -> Tensor:
    """Say of every row that it is the target; of every class that it has the target's prototype."""
    if lie.predictions:
        return lie.certain(lie.attack.target, lie.values)
    return lie.values[lie.attack.target].expand_as(lie.values)


def colluding(lie: Lie) -> Tensor:
    """Say of the rows of the class ``source``, as it sees them, that they are ``target``."""
    source, target = lie.attack.source, lie.attack.target
    told = lie.values.clone()
    if lie.by_class:
        own = told[source : source + 1]
        told[source] = lie.certain(target, own)[0] if lie.predictions else told[target]
    else:
        rows = lie.values.argmax(-1) == source
        told[rows] = lie.certain(target, lie.values[rows])
    return told


LIES: Mapping[str, Callable[[Lie], Tensor]] = {
    "scale": scaled,
    "reorder": reordered,
    "peak": peaked,
    "random": noise,
    "claim": claiming,
    "constant": constant,
    "collude": colluding,
}
