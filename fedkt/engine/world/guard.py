"""One client's privacy at work: what a message will cost, the ledger before data are touched, noise after.

A mode says what is noised; this module puts it around a client's training and release. Under private training
nothing but the rows of a private phase may hold private data: losses, constants and what is sent come from an
instance of the behaviour that holds no private rows at all, so that a mistake there cannot leak.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.behaviour import Client, Fit, Holding
from fedkt.data.content.census import counts
from fedkt.engine.world.costs import training_event
from fedkt.engine.world.world import World
from fedkt.knowledge.codec import Expected
from fedkt.privacy.accounting import Event
from fedkt.privacy.curator import ledger_folder
from fedkt.privacy.dpsgd import Dpsgd, Generators, from_entropy
from fedkt.privacy.ledger import Anchor, Ledger, Purpose
from fedkt.privacy.modes import CENSUS, ProtoGauss
from fedkt.privacy.modes import Dpsgd as DpsgdMode
from fedkt.rng import torch_stream

Arrays = Mapping[str, NDArray[Any]]
Describe = Callable[[Client], Fit | None]
"""Asks a behaviour for one of its phases."""


def guard_of(world: World, client: str, behaviour: Client, own: Path) -> "Guard | None":
    """Return the guard of a client with this folder of its own; None where it adds no noise itself."""
    if world.mode is None or world.mode.at_server:
        return None
    return Guard(world, client, behaviour, ledger_folder(world.scenario.privacy, own, client))


def without_private_rows(holding: Holding) -> Holding:
    """Return what a party holds beside its own data: public rows, sizes, settings."""
    return replace(
        holding, x=holding.x[:0], y=holding.y[:0], label_share=torch.zeros_like(holding.label_share)
    )


class Guard:
    """Stands around one client's work on one message of one run."""

    def __init__(self, world: World, client: str, behaviour: Client, folder: Path) -> None:
        settings, mode = world.scenario.privacy, world.mode
        if mode is None or settings.delta is None or settings.max_epsilon is None:
            raise ValueError(f"mode {settings.mode} has nothing to guard")
        self._mode, self._settings, self._client = mode, settings, client
        self._delta, self._most = settings.delta, settings.max_epsilon
        self._noise = world.costs(client).noise
        self._training = mode.training_noise(self._noise)
        self._own = behaviour
        self._as_counted = partial(world.counted, client)
        self._public = world.player(client, without_private_rows(behaviour.holding))
        self._seed = world.scenario.seed if settings.deterministic_noise else None
        self._rows = world.party_hash(client)
        self.ledger = Ledger(folder)
        self._census = Purpose("", 0, CENSUS)

    @property
    def releasing(self) -> Client:
        """The behaviour that makes the contribution; without private rows where only training is noised."""
        at_release = self._training is None or isinstance(self._mode, ProtoGauss)
        return self._own if at_release else self._public

    # Before data are touched ------------------------------------------------------------------------

    def sent(self, purpose: Purpose) -> dict[str, NDArray[Any]] | None:
        """Return what was released for the same request before; a repeated request costs nothing."""
        return self.ledger.released(purpose)

    def reserve(self, purpose: Purpose, phases: Sequence[Describe], expected: Expected | None) -> None:
        """Pay for the private ones of these phases and, unless None, for releasing these arrays, counts of
        private rows once a run.

        Raises :class:`~fedkt.privacy.ledger.Declined`; data must not be touched before this returns.
        """
        events: list[Event] = []
        if self._training is not None:
            described = [describe(self._own) for describe in phases]
            # Noise that the seed tells hides nothing, whatever its size.
            noise = self._training if self._seed is None else 0.0
            private = [self._as_counted(p) for p in described if p is not None and p.private]
            events = [training_event(p, noise) for p in private]
        if expected is not None:
            events += self._mode.release(expected, self._noise)
        self._pay(purpose, events)
        once = [] if expected is None else self._mode.once(expected)
        self._census = Purpose(purpose.run, 0, CENSUS)
        if once and self.ledger.released(self._census) is None:
            self._pay(self._census, once)

    def _pay(self, purpose: Purpose, events: Sequence[Event]) -> None:
        self.ledger.reserve(
            purpose,
            events,
            delta=self._delta,
            unit=self._mode.unit,
            change=self._mode.change,
            most=self._most if self._seed is None else math.inf,
            data=self._rows,
        )

    # Training ---------------------------------------------------------------------------------------

    def phase(self, describe: Describe, round_: int) -> tuple[Fit | None, Dpsgd | None]:
        """Return a phase to train and, where it is private training, how."""
        own = describe(self._own)
        if own is None or self._training is None:
            return own, None
        public = describe(self._public)
        if public is None:
            return None, None
        if not own.private:
            return public, None
        how = Dpsgd(self._training, self._settings.max_grad_norm, self._generators(own.name, round_))
        return self._as_counted(replace(public, rows=own.rows, private=True)), how

    def _generators(self, phase: str, round_: int) -> Generators:
        if self._seed is None:
            return from_entropy
        seed = self._seed
        return lambda purpose: torch_stream(seed, "no privacy", purpose, phase, self._client, round_)

    # Release ----------------------------------------------------------------------------------------

    def privatise(self, arrays: Arrays, expected: Expected) -> Arrays:
        """Return what may be sent in place of what the behaviour made."""
        if CENSUS in expected and isinstance(self._mode, DpsgdMode):
            arrays = {**arrays, CENSUS: self._counted(self._mode)}
        return self._mode.privatise(arrays, expected, self._noise)

    def _counted(self, mode: DpsgdMode) -> NDArray[Any]:
        """Return the noisy counts of private rows: those that were released before, where they were."""
        held, known = self._own.holding, self.ledger.released(self._census)
        if known is None:
            assert held.transfer is not None
            known = {CENSUS: mode.counted(counts(held.x, held.transfer, held.seed).cpu().numpy())}
            self.ledger.release(self._census, known)
        return known[CENSUS]

    def class_means(self, features: Tensor, logits: Tensor) -> Arrays | None:
        """Return noisy means per class of the private rows; None where the mode releases something else."""
        if not isinstance(self._mode, ProtoGauss):
            return None
        return self._mode.class_means(
            self._own.sends,
            features.cpu().numpy(),
            logits.softmax(-1).cpu().numpy(),
            self._own.holding.y.cpu().numpy(),
            self._own.holding.dims.classes,
            self._noise,
        )

    def release(self, purpose: Purpose, arrays: Arrays) -> None:
        """Note what is about to be sent, so that a repeated request gets the same."""
        self.ledger.release(purpose, arrays)

    def told(self) -> dict[str, float]:
        """Return the one number that a private reply holds beside knowledge: epsilon, if it is finite."""
        epsilon = self.ledger.spent(self._delta, self._mode.unit).epsilon
        return {"epsilon": epsilon} if math.isfinite(epsilon) else {}

    # The state's anchor -----------------------------------------------------------------------------

    def anchor(self) -> dict[str, Any]:
        """Return how far the ledger has come, to be kept with the client's state."""
        return asdict(self.ledger.anchor())

    def check(self, anchor: Mapping[str, Any] | None) -> None:
        """Raise :class:`~fedkt.privacy.ledger.Declined` unless the ledger has what the state remembers."""
        if anchor is not None:
            self.ledger.check(Anchor(**anchor))
