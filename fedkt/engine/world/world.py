"""What a process needs to play the clients of a scenario: built once per process, from the scenario alone."""

import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedkt import data, models, registry, scenario
from fedkt.adversity.churn import Churn, Trace
from fedkt.adversity.hostile import hostile, who_is_hostile
from fedkt.client.behaviour import Client, Fit, Holding, Steps, classification
from fedkt.client.learning.refitting import taught
from fedkt.client.lessons import views
from fedkt.client.lessons.blocking import masked
from fedkt.client.lessons.knowing import CLOSED, SHUT, taken
from fedkt.client.placing import placed
from fedkt.client.shared_weights import shared
from fedkt.client.training import lay_out, seeded
from fedkt.data import Federation
from fedkt.data.columns.sample import stratified
from fedkt.data.content.withheld import class_numbers
from fedkt.data.federation import Shard
from fedkt.data.identity import changed, data_hashes, party_hash
from fedkt.data.sequence.turns import Turns, turns_of
from fedkt.engine.world import memory
from fedkt.engine.world.costs import Costs, costs
from fedkt.engine.world.device import device_of
from fedkt.errors import RunError
from fedkt.knowledge.codec import Expected
from fedkt.knowledge.kinds import Dims
from fedkt.models.build import Dealt
from fedkt.models.decoders.speaker import begin
from fedkt.privacy.dpsgd import sampling
from fedkt.privacy.modes import mode_of
from fedkt.rng import numpy_stream, seed_of
from fedkt.scenario import Attack, Scenario
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.fusing.robust import Probe
from fedkt.strategy.own_settings import behaviour_of, learns_jointly, settings_for, teaches
from fedkt.strategy.rounds.given import Setting


@dataclass(frozen=True)
class Place:
    """Where a scenario runs, as text that can travel: the resolved scenario, its data and its states.

    ``hashes``: of the data that the run began with, as pairs; ``given``: pickled plug-ins that cannot be
    imported, for processes of this simulation only.
    """

    scenario: str
    data_dir: str | None
    states: str
    hashes: tuple[tuple[str, str], ...] = ()
    given: bytes = b""


class World:
    """The parties of a scenario: their data, models, behaviours. Nothing here changes during a run."""

    def __init__(
        self,
        scenario_: Scenario,
        federation: Federation,
        trace: Trace | None = None,
        slots: Mapping[str, int] | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        self.scenario = scenario_
        self.given = registry.given(scenario.to_dict(scenario_))
        """Plug-ins of the scenario that cannot be imported."""
        self.left_out = left_out
        """Settings of the file's that the strategy makes nothing of, which the scenario has no more."""
        self._trace = trace
        self.device = device_of(scenario_.engine)
        self.strategy: type[Strategy] = registry.find("strategies", scenario_.strategy.name)
        self.federation = federation.pooling("data" in self.strategy.shares)
        self.config: StrategyConfig = self.strategy.Config(**scenario_.strategy.settings)
        self.behaviour: type[Client] = behaviour_of(self.strategy, scenario_.data)
        self.settings = settings_for(self.strategy, self.config, scenario_)
        self.together = self.behaviour.distils_transfer_rows and learns_jointly(self.strategy, scenario_)
        """Whether training rehearses what teachers taught."""
        self.shards: Mapping[str, Shard] = {shard.id: shard for shard in federation.shards}
        self.names = list(self.shards)
        """The clients in order; a simulated node plays the one at its place."""
        dealt = models.deal(scenario_.clients.models, len(federation.shards), scenario_.seed)
        self.models: Mapping[str, Dealt] = dict(zip(self.shards, dealt, strict=True))
        self.mode = mode_of(scenario_.privacy)
        """The privacy mode, None for ``none``."""
        self.slots = slots or {}
        """By client, the public number of rows that its private training counts; else ``privacy.rows``."""
        self._dims: dict[str, Dims] = {}
        self._costs: dict[str, Costs] = {}
        self._hashes: dict[str, str] = {}
        self.skeletons: dict[str, models.Net] = {}
        """This process's module of each architecture that is in use."""
        self._there: dict[tuple[str, str], torch.Tensor] = {}
        self._sources: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        own_device = self.device.type != "cpu"  # where rows stay for the run, while its memory lasts
        self._holdings: memory.Recent[Holding] = memory.Recent(math.inf if own_device else memory.RECENT)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in another process, where what is looked up by name must be found too."""
        registry.take(state["given"])
        self.__dict__.update(state)

    @property
    def labelled(self) -> int:
        """Of how many transfer rows the server knows the labels, for robust fusion or for the strategy."""
        robust, own = self.scenario.robust, self.strategy.labelled
        asked = robust.probe_rows if robust.filter == "probe" else 0
        return max(asked, getattr(self.config, own) if own else 0)

    @property
    def transfer_hash(self) -> str:
        """The hash of the transfer set, empty without one."""
        return self.federation.transfer_hash or ""

    def transfer_hash_in(self, round_: int) -> str:
        """Return the hash of the transfer set that a round speaks about, empty without one."""
        return self.federation.transfer_hash_in(round_) or ""

    def net(self, client: str, again: int = 0) -> models.Net:
        """Build the client's model with its initial weights, or where it begins ``again`` with others."""
        of = self.architecture(client) if self.strategy.same_start else client
        seed = seed_of(self.scenario.seed, "model", of, *([again] if again else []))
        net = models.build(self.models[client], self.federation.input, self.federation.classes, seed)
        if self.per_site:
            net.close(self._closed(client))
        begin(net.features, self.federation, self.shards[client])
        with seeded(seed_of(seed, "attached")):
            self.behaviour.attach(net, net.width)
            if self.scenario.clients.local.augment:
                views.attach(net, net.width, self.federation.classes)
        return net

    def architecture(self, client: str) -> str:
        """Return what clients with the same kind of model have in common: its name and settings."""
        return repr(self.models[client])

    def setting(self, run: str, own: Path) -> Setting:
        """Return what the server of a simulation knows; ``own``: the server's own folder."""
        labels, seed = self.federation.transfer_labels, self.scenario.seed
        return Setting(
            scenario=self.scenario,
            run=run,
            dims={client: self.dims(client) for client in self.shards},
            transfer=self.transfer_hash,
            input=self.federation.input,
            federation=self.federation,
            probe=Probe.drawn(labels, self.labelled, seed) if self.labelled and labels is not None else None,
            own=own,
            stock=self.federation.stock,
            noise=self.noise_on_weights(),
        )

    def noise_on_weights(self) -> dict[str, float]:
        """Return, by client, the deviation of the noise that a round's private training leaves on a weight.

        Each of T steps of plain SGD at rate η adds ησC / (expected batch), so √T times that; it follows from
        public numbers. Empty where training is not private, or its optimiser is another one.
        """
        mode, local = self.mode, self.scenario.clients.local
        if mode is None or mode.training_noise(1.0) is None or local.optimizer != "sgd" or local.momentum:
            return {}
        found = {}
        for client in self.shards:
            noise, phases = mode.training_noise(self.costs(client).noise), self.private_phases(client)[1]
            for phase in phases:
                rate, count = sampling(phase.counted, phase.steps)
                step = phase.steps.lr * (noise or 0.0) * self.scenario.privacy.max_grad_norm
                found[client] = math.sqrt(count) * step / max(phase.counted * rate, 1.0)
        return found

    def one_of_each(self) -> list[str]:
        """Return the first client of each architecture."""
        found: dict[str, str] = {}
        for client in self.names:
            found.setdefault(self.architecture(client), client)
        return list(found.values())

    def skeleton(self, client: str) -> models.Net:
        """Return this process's module of the client's architecture, for its weights to be put in."""
        key = self.architecture(client)
        if key not in self.skeletons:
            self.skeletons[key] = self.net(client).to(self.device)
            lay_out(self.skeletons[key])
        return self.skeletons[key]

    def dims(self, client: str) -> Dims:
        """Return the sizes that fix the client's knowledge; computed once per architecture."""
        key = self.architecture(client)
        if key not in self._dims:
            net = self.net(client)
            total = 0 if self.federation.transfer is None else self.federation.transfer.x.shape[0]
            shapes = {name: tuple(p.shape) for name, p in shared(net).items()}
            outputs, answers = self.federation.classes, self.federation.task.answers
            self._dims[key] = Dims(total, total, outputs, net.width, shapes, len(self.shards), answers)
        return self._dims[key]

    @cached_property
    def hostile(self) -> Mapping[str, Attack]:
        """The attacks of the hostile clients, by name."""
        return who_is_hostile(self.scenario.attacks, self.shards, self.scenario.seed)

    @cached_property
    def churn(self) -> Churn | None:
        """What becomes of clients and their messages; None where nothing does."""
        described, part = self.scenario.churn, self.scenario.participation
        waits = self.scenario.engine.kind != "board"
        if waits and not described.active and part.over_select == 1:
            return None
        return Churn(described, list(self.shards), self.scenario.rounds, self.scenario.seed, self._trace)

    def blocked(self, client: str) -> tuple[int, ...]:
        """Return the numbers of the classes that a client never learns."""
        given = self.scenario.participation.blocked.get(client)
        if given is None:
            return ()
        return class_numbers(
            given, self.federation.classes, self.federation.label_names, "participation.blocked"
        )

    @property
    def per_site(self) -> bool:
        """Whether clients know their own classes alone; who holds all data knows all."""
        return self.scenario.data.per_site and "data" not in self.strategy.shares

    def _closed(self, client: str) -> torch.Tensor:
        """Return what shuts the outputs of classes that the client's rows lack [classes]."""
        return torch.where(torch.from_numpy(self.shards[client].share > 0), 0.0, SHUT)

    def answering(self, client: str, model: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Return a model that answers for the classes of its own rows alone, whatever others it learned."""
        if not self.per_site:
            return model
        return {**model, CLOSED: self._closed(client).to(model[CLOSED].device)}

    def lesson(
        self, client: str, teacher: Mapping[str, torch.Tensor], model: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, float]]:
        """Return a teacher without what the client does not learn, its model, and how much was dropped."""
        there = dict(teacher)
        if blocked := self.blocked(client):
            told = {**self.settings, "classes": self.federation.classes}
            there = masked(self.behaviour.accepts, there, blocked, told)
        if not self.per_site:
            return there, dict(model), {}
        found = taken(there, model[CLOSED], self.scenario.data.learn_others)
        dropped = {"dropped_rows": float(found.rows), "dropped_mass": found.mass}
        return found.teacher, {**model, CLOSED: found.closed}, dropped

    @cached_property
    def turns(self) -> Turns | None:
        """Which task each client has in each round; None where it holds all its rows."""
        return turns_of(self.scenario, self.federation)

    def player(self, client: str, holding: Holding | None = None) -> Client:
        """Return the behaviour of a client, a hostile one where it is to attack.

        ``holding``: what it holds, in place of all that it has.
        """
        holding = holding or self.holding(client)
        attack = self.hostile.get(client)
        made = self.behaviour(holding) if attack is None else hostile(self.behaviour, holding, attack)
        if made.decides_own == "prior" and self.refits(client):
            # It learned how frequent its own classes are in the same fit; the prior would count them twice.
            vars(made).update(decides_own="")
        return made

    def full_contribution(self, client: str) -> Expected:
        """Return the arrays of a contribution about all rows that are asked for in a round."""
        transfer = self.scenario.data.transfer
        rows = transfer.asked if transfer and self.strategy.needs_transfer else 0
        return self.behaviour.contribution(self.dims(client).about(rows), self.settings)

    def private_phases(self, client: str, holding: Holding | None = None) -> tuple[list[Fit], list[Fit]]:
        """Return the phases on private rows before the first round, and those of each round.

        What trains with a teacher only is counted for every round, the first included. ``holding``: what the
        client holds, in place of all that it has.
        """
        behaviour = self.behaviour(holding or self.holding(client))
        first, each = behaviour.prepare(), behaviour.train(None)
        if each is None:
            blank = behaviour.teacher(self.dims(client), self.settings, with_rows=False)
            each = behaviour.train(
                {name: torch.from_numpy(np.zeros(spec.shape, spec.dtype)) for name, spec in blank.items()}
            )
        return (
            [self.counted(client, f) for f in [first] if f and f.private],
            [self.counted(client, f) for f in [each] if f and f.private],
        )

    def counted(self, client: str, phase: Fit) -> Fit:
        """Return a private phase as its steps, rate and divisor are counted: by a public number, if any."""
        slots = self.slots.get(client, self.scenario.privacy.rows)
        return replace(phase, slots=slots) if phase.private and slots is not None else phase

    def costs(self, client: str) -> Costs:
        """Return what the client's data will pay in this scenario's run; computed once."""
        if client not in self._costs:
            expected, rounds, free = self.full_contribution(client), self.scenario.rounds, Costs((), (), 0.0)
            phases = partial(self.private_phases, client)
            self._costs[client] = free if self.mode is None else costs(self.mode, rounds, expected, phases)
        return self._costs[client]

    def aside(self, client: str) -> NDArray[np.int64]:
        """Return which of its training rows a client sets aside to see what a teacher costs it, by class.

        None where there is no guard, it has folds, or nobody teaches anything.
        """
        guard, shard = self.scenario.clients.guard, self.shards[client]
        if guard is None or guard.folds is not None or not teaches(self.strategy):
            return np.zeros(0, np.int64)
        labels, stream = self.federation.strata[shard.rows], numpy_stream(self.scenario.seed, "guard", client)
        return stratified(labels, int(guard.validation * len(labels)), stream)

    def guard_rows(self, client: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return these rows and their labels."""
        x, y = self.federation.tensors(self.shards[client])
        rows = torch.from_numpy(self.aside(client))
        return x[rows].to(self.device), y[rows]

    def folds(self, client: str) -> list[NDArray[np.int64]]:
        """Return the folds of its training rows that a client's copies do without, by class.

        None where the guard has no folds, or nobody teaches anything.
        """
        guard, shard = self.scenario.clients.guard, self.shards[client]
        if guard is None or guard.folds is None or not teaches(self.strategy):
            return []
        labels, stream = self.federation.strata[shard.rows], numpy_stream(self.scenario.seed, "folds", client)
        order = np.argsort(labels[shuffled := stream.permutation(len(labels))], kind="stable")
        return [np.sort(shuffled[order[k :: guard.folds]]) for k in range(guard.folds)]

    def kept_there(self, name: str, client: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a client's rows on the device, where an accelerator keeps them for the run.

        Rows that all clients see alike are one tensor for all.
        """
        if self.device.type == "cpu":
            return make()
        if (name, client) not in self._there:
            self._there[name, client] = self._moved(make())
        return self._there[name, client]

    def _moved(self, rows: torch.Tensor) -> torch.Tensor:
        """Bring a tensor to the device once; ``_sources`` keeps it, so that its identity stays its own."""
        if self.device.type == "cpu":
            return rows
        if id(rows) not in self._sources:
            self._sources[id(rows)] = rows, rows.to(self.device)
        return self._sources[id(rows)][1]

    def party_hash(self, client: str) -> str:
        """Return the hash of the client's rows, by which its ledger knows them; computed once."""
        if client not in self._hashes:
            self._hashes[client] = party_hash(self.federation, self.shards[client])
        return self._hashes[client]

    def about(self, behaviour: Client, round_: int) -> Client:
        """Let a behaviour speak of a round's transfer rows, where each round has its own; return it."""
        if self.federation.fresh:
            held = behaviour.holding
            rows = self.federation.transfer_tensor(self.shards[held.client], round_).to(self.device)
            behaviour.holding = replace(held, transfer=rows)
        return behaviour

    def refits(self, client: str) -> bool:
        """Say whether a client's model learns all that it knows anew each time, as estimators do."""
        return self.skeleton(client).refits

    def refit(self, behaviour: Client, teacher: Mapping[str, torch.Tensor] | None) -> Fit | None:
        """Return all that a model learns that is fitted anew each time; of pooled data these themselves."""
        if "data" in self.strategy.shares:
            x, y = self.federation.pooled()
            return Fit("train", {"x": x, "y": y}, classification, behaviour.holding.local)
        return taught(behaviour, teacher, self.scenario.clients.distill.weight)

    def holding(self, client: str) -> Holding:
        """Collect what the client holds, on this world's device; of made rows those of the first round."""
        return self._holdings.get(client, lambda: self._holding(client), self._bytes_of)

    def _bytes_of(self, holding: Holding) -> int:
        """Return the bytes of a client's own tensors: those that all clients see alike are there once."""
        own = [holding.x, holding.y, holding.label_share]
        if self.federation.preprocess.by_client:
            own += [rows for rows in (holding.transfer, *(holding.public or ())) if rows is not None]
        return sum(rows.numel() * rows.element_size() for rows in own)

    def _distillation(self) -> Steps:
        """Return the steps of distillation: where they are to be equal, as many as for all transfer rows."""
        parts, transfer = self.scenario.clients, self.scenario.data.transfer
        steps = Steps.distill(parts.distill, parts.local)
        if transfer is None or not transfer.equal_steps:
            return steps
        return replace(steps, batches=steps.count(transfer.size))

    def _holding(self, client: str) -> Holding:
        shard, federation = self.shards[client], self.federation
        x, y = federation.tensors(shard)
        if len(aside := self.aside(client)):
            kept = torch.from_numpy(np.setdiff1d(np.arange(len(y)), aside))
            x, y = x[kept], y[kept]
        labelled = client not in self.scenario.data.unlabelled
        transfer = None if federation.transfer is None else self._moved(federation.transfer_tensor(shard))
        public = None
        if federation.public is not None:
            public_x, public_y = federation.public_tensors(shard)
            public = (self._moved(public_x), self._moved(public_y))
        share = federation.task.frequencies(y.numpy(), federation.classes)
        if not labelled:
            y, share = torch.full_like(y, -1), np.zeros_like(share)
        own = placed([{"x": x, "y": y, "share": torch.from_numpy(share).float()}], self.device)[0]
        return Holding(
            client=client,
            seed=self.scenario.seed,
            dims=self.dims(client),
            x=own["x"],
            y=own["y"],
            transfer=transfer,
            public=public,
            label_share=own["share"],
            local=Steps.local(self.scenario.clients.local),
            distill=self._distillation(),
            settings=self.settings,
            labelled=labelled,
            task=federation.task,
        )


@lru_cache(maxsize=1)
def world_at(place: Place) -> World:
    """Build the world of a place, once per process. Raises RunError where its data changed meanwhile."""
    if place.given:
        registry.take(pickle.loads(place.given))
    resolved = scenario.from_dict(json.loads(place.scenario))
    federation = data.build(resolved, None if place.data_dir is None else Path(place.data_dir))
    if place.hashes and (others := changed(dict(place.hashes), data_hashes(federation))):
        raise RunError(f"{' and '.join(others)} changed while the run went on; restore the data and resume.")
    return World(resolved, federation)
