"""The private training of a scenario's own model, attacked as strongly as its claim allows: step by step.

What DP-SGD's theorem bounds is not the last model but every noisy gradient on the way to it. So here the
attacker sees each step, knows every record but the coins, the model, the clip and the noise's size, and
computes itself what each canary would have added. Of all steps together the best linear guess of the coins
is made (:func:`guess`). Rows, model, loss, optimiser, rate, number of steps and noise are the scenario's;
what clients learn from teachers between rounds is post-processing, and left out.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fedkt.client.behaviour import Arrays, Fit, Forward
from fedkt.engine.audits.claims import curves_of
from fedkt.engine.world.costs import training_event
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.privacy.accounting import Event
from fedkt.privacy.attacks.audit import FEWEST, Finding, judge, toss
from fedkt.privacy.attacks.scores import Floats
from fedkt.privacy.dpsgd import Dpsgd, fit_privately, from_entropy, sampling

WORK = 1e12
"""Products of numbers that the attacker makes at most; of the steps beyond it, it sees none."""
CHUNK = 64
"""Rows whose gradients are made at once."""
LEAST = 1e-9
"""Least variance of a step's noise, as a share of a gradient's square: float32 is rounded."""
SEED = 7


@dataclass(frozen=True)
class Bug:
    """What is wrong with a training: ``noise``: times what it should be; ``length``: times which canaries'
    gradients become longer, and nothing clips them any more; ``rounds``: for each that is accounted;
    ``seed_known``: the attacker takes the noise off again."""

    what: str
    noise: float = 1.0
    length: float = 1.0
    rounds: int = 1
    seed_known: bool = False


@dataclass(frozen=True)
class Training:
    """The client's own rows ``x``, ``y``, the canaries' (``labels`` are planted), one round's ``phase`` at
    the scenario's rate, how often it is run, the noise multiplier and the clip that are claimed."""

    x: Tensor
    y: Tensor
    canaries: Tensor
    labels: Tensor
    phase: Fit
    rounds: int
    noise: float
    clip: float

    @property
    def events(self) -> list[Event]:
        """What the training costs, as it is claimed."""
        return [training_event(self.phase, self.noise)] * self.rounds


def training(world: World, canaries: int) -> Training:
    """Return the first client's private training with slots for canaries.

    Canaries are transfer rows, then common test rows, with labels drawn at random; where there are not as
    many, the same rows come again with other labels. Raises InputError where there are not so many records.
    """
    client = world.names[0]
    shard, federation, mode = world.shards[client], world.federation, world.mode
    assert mode is not None
    noise, phases = mode.training_noise(world.costs(client).noise), world.private_phases(client)[1]
    if noise is None or not phases:
        raise ValueError("nothing is trained privately in this world's rounds")
    rows = [] if federation.transfer is None else [federation.transfer_tensor(shard)]
    rows += [] if federation.test is None else [federation.test_tensors(shard)[0]]
    total, classes = sum(len(part) for part in rows), federation.classes
    if not FEWEST <= canaries <= total * classes:
        raise InputError(
            f"--canaries is {canaries}; it must be at least {FEWEST} and at most {total * classes}, the "
            "transfer and test rows with all labels."
        )
    there = np.arange(canaries)
    first = np.random.default_rng().integers(0, classes, total)
    labels = torch.from_numpy((first[there % total] + there // total) % classes)
    # A step takes the same share of the rows as without canaries.
    own = phases[0]
    slots = own.counted + canaries
    batch = -(-slots // -(-own.counted // own.steps.batch_size))
    steps = replace(own.steps, batch_size=batch, batches=own.steps.count(own.counted))
    phase = replace(own, slots=slots, steps=steps)
    x, y = own.rows["x"], own.rows["y"]
    taken = torch.cat(rows)[torch.from_numpy(there % total)]
    clip = world.scenario.privacy.max_grad_norm
    return Training(x, y, taken, labels, phase, world.scenario.rounds, noise, clip)


def attacked(net: nn.Module, given: Training, bug: Bug, delta: float) -> Finding:
    """Train privately with a bug, attack every step, and judge the attack by the claim of sound training."""
    members = toss(len(given.labels), np.random.default_rng())
    inside = torch.from_numpy(members)
    rows: dict[str, Tensor] = {
        "x": torch.cat([given.x, given.canaries[inside]]),
        "y": torch.cat([given.y, given.labels[inside]]),
    }
    loss = given.phase.loss
    if bug.length != 1:
        long = torch.full((int(inside.sum()),), bug.length)
        rows["scale"] = torch.cat([torch.ones(len(given.y)), long])
        loss = scaled(loss)
    phase = replace(given.phase, rows=rows, loss=loss)
    generators = (lambda _: torch.Generator().manual_seed(SEED)) if bug.seed_known else from_entropy
    how = Dpsgd(given.noise * bug.noise / bug.length, given.clip * bug.length, generators)
    attacker = Attacker(net, given, bug)
    state: Any = {}
    watching = register_optimizer_step_pre_hook(attacker.see)
    try:
        for number in range(given.rounds * bug.rounds):
            attacker.begin_phase()
            state = fit_privately(net, phase, state, how, seed=0, client="0", round_=number)
    finally:
        watching.remove()
    return judge(attacker.scores(), members, delta, curves_of(given.events, delta, "record"))


def scaled(loss: Any) -> Any:
    """Return a loss times ``scale`` of its rows."""

    def of(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
        found: Tensor = loss(net, batch, constants) * batch["scale"]
        return found

    return of


class Attacker:
    """Sees every step of a training and adds up what it says of each canary."""

    def __init__(self, net: nn.Module, given: Training, bug: Bug) -> None:
        self.net, self.given, self.bug = net, given, bug
        self.copy = deepcopy(net)  # the trained one has the hooks of private training
        rate, _ = sampling(given.phase.counted, given.phase.steps)
        self.rate, self.expected = rate, given.phase.counted * rate
        self.known = len(given.y)
        self.x = torch.cat([given.x, given.canaries])
        self.y = torch.cat([given.y, given.labels])
        n = len(given.labels)
        self.precision, self.heard, self.work = np.zeros((n, n)), np.zeros(n), 0.0
        self.stream = torch.Generator()

    def begin_phase(self) -> None:
        """Start the noise again where its seed is known."""
        self.stream.manual_seed(SEED)

    @torch.no_grad()
    def see(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take in a step: the noisy gradient that the optimiser is about to use."""
        trained = {id(p): p for group in optimizer.param_groups for p in group["params"]}
        names = {name: p for name, p in self.net.named_parameters() if id(p) in trained and p.requires_grad}
        deviation = self.given.noise * self.given.clip
        told = []
        for p in trained.values():
            if p.grad is None:
                continue
            total = p.grad * self.expected
            if self.bug.seed_known:
                total = total - torch.normal(0.0, deviation, p.shape, generator=self.stream, dtype=p.dtype)
            told.append((id(p), total))
        by_id = dict(told)
        if self.work > WORK:
            return
        with torch.enable_grad():
            gradients = self.gradients(names)
        step = torch.cat([by_id[id(p)].flatten() for p in names.values()])
        deviation *= 0.0 if self.bug.seed_known else self.bug.noise
        self.work += float(gradients.shape[0]) ** 2 * gradients.shape[1]
        products = _numbers(gradients @ gradients.T)
        beside = step - self.rate * gradients[: self.known].sum(0)
        precision, heard = guess(products, _numbers(gradients @ beside), self.known, self.rate, deviation)
        self.precision += precision
        self.heard += heard

    def gradients(self, names: Mapping[str, Tensor]) -> Tensor:
        """Return the clipped gradients [rows, parameters] of known rows and canaries, if they are members."""
        held = {name: p.detach() for name, p in self.net.named_parameters()}
        held |= dict(self.net.named_buffers())
        loss, constants = self.given.phase.loss, self.given.phase.constants
        wanted = {name: held[name] for name in names}

        def of_row(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            forward = Called(self.copy, {**held, **params})
            return loss(forward, {"x": x.unsqueeze(0), "y": y.unsqueeze(0)}, constants).sum()

        each = vmap(grad(of_row), in_dims=(None, 0, 0), randomness="different")
        parts = []
        for x, y in zip(self.x.split(CHUNK), self.y.split(CHUNK), strict=True):
            found = each(wanted, x, y)
            parts.append(torch.cat([found[name].flatten(1) for name in names], 1))
        rows = torch.cat(parts)
        lengths = rows.norm(dim=1, keepdim=True)
        rows = rows * (self.given.clip / lengths.clamp_min(self.given.clip))
        rows[self.known :] *= self.bug.length
        made: Tensor = rows
        return made

    def scores(self) -> Floats:
        """Return what all steps together say of each canary."""
        found = np.linalg.solve(self.precision + 4 * np.eye(len(self.heard)), self.heard)
        return np.asarray(found, np.float64)


def guess(
    products: Floats, heard: Floats, known: int, rate: float, deviation: float
) -> tuple[Floats, Floats]:
    """Return what a step's sum says of the coins c: precision [n, n] and evidence [n] of c - 1/2.

    The sum is s = Σ b_i a_i + Σ c_j b_j a_j + noise, b ~ Bernoulli(``rate``) for each of the ``known`` rows
    and of the n canaries. ``products`` <a_i, a_k> of both; ``heard`` <a_i, s - rate Σ a of known rows>;
    ``deviation`` of each number's noise. With fair coins sampling has variance q(1-q) for a known row and
    q(1-q)/2 for a canary, so that s - E[s] has covariance σ² + Σ d_i a_i a_iᵀ, whose inverse is applied by
    A (σ² + Aᵀ D A)⁻¹ = (σ² + A Aᵀ D)⁻¹ A. Steps add up; then c - 1/2 ≈ (Σ precision + 4)⁻¹ Σ evidence.
    """
    n = len(products)
    spread = np.full(n, rate * (1 - rate))
    spread[known:] /= 2
    least = LEAST * float(np.trace(products)) / n + 1e-300
    variance = deviation**2 + least
    surplus = heard - rate / 2 * products[:, known:].sum(1)
    both = np.concatenate([products[:, known:], surplus[:, None]], 1)
    found = both / variance if rate == 1 else np.linalg.solve(products * spread + variance * np.eye(n), both)
    return rate**2 * found[known:, :-1], rate * found[known:, -1]


class Called:
    """A model with parameters of the attacker's choice, as losses see it."""

    def __init__(self, net: nn.Module, params: dict[str, Tensor]) -> None:
        self._net, self.params = net, params

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = functional_call(self._net, self.params, (x,))
        return out

    def head(self, z: Tensor) -> Tensor:
        """Return the logits of features."""
        prefix = "head."
        held = {n.removeprefix(prefix): p for n, p in self.params.items() if n.startswith(prefix)}
        logits: Tensor = functional_call(self._net.get_submodule("head"), held, (z,))
        return logits


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()
