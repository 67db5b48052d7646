"""What can be known to be wrong with hostile clients, robust fusion and churn before anything runs."""

from collections.abc import Iterator
from pathlib import Path

import torch

from fedkt.adversity import churn
from fedkt.adversity.churn import Trace
from fedkt.client.lessons.adapting import first_of
from fedkt.client.lessons.blocking import maskable
from fedkt.client.lessons.sensing import has_statistics
from fedkt.data import Federation
from fedkt.data.sets.npz import find_file
from fedkt.engine.world.world import World
from fedkt.errors import tried
from fedkt.scenario import Scenario
from fedkt.strategy.board_checks import board_problems
from fedkt.strategy.lesson_checks import lesson_problems


def adversity_problems(world: World) -> list[str]:
    """Return what does not fit the world, in sentences."""
    problems = [*_robust(world), *_attacks(world), *_withdrawn(world), *_blocked(world), *_prior(world)]
    problems += [*_adapted(world), *_recorded(world), *_drift(world)]
    problems += churn.problems_of(world.scenario.churn, world.scenario.rounds, len(world.shards))
    problems += board_problems(world.strategy, world.scenario)
    problems += lesson_problems(world.strategy, world.behaviour, world.scenario)
    tried(problems, lambda: (world.hostile, world.turns))  # checked where they are dealt
    return problems


def _drift(world: World) -> Iterator[str]:
    """Yield why nobody can watch for drift: there are no rows set aside, or no classes."""
    data = world.scenario.data
    if world.scenario.drift is not None and not data.validation:
        yield "drift watches the rows that data.validation sets aside, which is 0; set it, such as 0.2."
    if world.scenario.drift is not None and data.task != "classification":
        yield f"drift counts rows by class, but data.task is {data.task}; leave it out."


def trace_of(scenario: Scenario, federation: Federation, data_dir: Path | None) -> Trace | None:
    """Read the trace of a scenario, where it has one; a file is found as data files are, or as it stands."""
    name = scenario.churn.trace
    if name is None:
        return None
    path = Path(name) if Path(name).is_file() else find_file(name, data_dir)
    return churn.read_trace(path, [shard.id for shard in federation.shards])


def _withdrawn(world: World) -> Iterator[str]:
    part = world.scenario.participation
    for key in ("withdrawn", "withdrawn_rows", "blocked"):
        for client in getattr(part, key):
            if client not in world.shards:
                yield (
                    f"participation.{key} names '{client}', which is no client; "
                    f"there are {', '.join(world.shards)}."
                )


def _blocked(world: World) -> Iterator[str]:
    """Yield why a class cannot be kept from a client: what comes down cannot be read by classes."""
    if world.scenario.participation.blocked and not maskable(world.behaviour.accepts):
        yield (
            "participation.blocked takes classes out of teachers, but those of strategy "
            f"'{world.scenario.strategy.name}' are {world.behaviour.accepts.kind}, from which no class can "
            "be taken out; name another strategy, or leave it out."
        )


def _prior(world: World) -> Iterator[str]:
    """Yield whether a mix of classes that is stated has not a share for each."""
    prior, classes = world.scenario.clients.adapt.prior, world.federation.classes
    if prior is not None and len(prior) != classes:
        yield (
            f"clients.adapt.prior has {len(prior)} shares, but there are {classes} classes; it must have one "
            "each."
        )


def _adapted(world: World) -> Iterator[str]:
    """Yield why a copy of some model cannot be brought to the transfer rows in the way that is asked for."""
    adapt, public = world.scenario.clients.adapt, world.federation.public
    if adapt.loss == "none":
        return
    if adapt.trains == "input" and world.federation.input.kind != "image":
        yield (
            "clients.adapt.trains input is a convolution over the channels of images, but rows are "
            f"{world.federation.input.kind}; it must be features."
        )
    for client in world.one_of_each():
        net, name = world.net(client), world.models[client][0]
        fixed = net.refits or not any(p.requires_grad for p in net.features.parameters())
        if adapt.loss == "statistics" and not has_statistics(net):
            yield (
                f"clients.adapt.loss statistics moves those of BatchNorm layers, but model '{name}' has "
                "none; another loss must be named, such as im."
            )
        elif adapt.loss != "statistics" and fixed:
            yield (
                f"clients.adapt.loss {adapt.loss} trains features, but model '{name}' has none that can be "
                "trained; it must be none."
            )
    if public is None or adapt.budget is None:
        return
    spare = int((~first_of(torch.from_numpy(public.y), adapt.few or 0)).sum())
    if adapt.budget > spare:
        beside = f" beside the {adapt.few} of each class of clients.adapt.few" if adapt.few else ""
        yield (
            f"clients.adapt.budget is {adapt.budget}, but data.public has {spare} rows{beside}; it must "
            "be at most that."
        )


def _recorded(world: World) -> Iterator[str]:
    """Yield why contributions would be kept for nothing."""
    mode = world.scenario.privacy.mode
    if world.scenario.checkpoint.teachers and mode != "none":
        yield (
            "checkpoint.teachers keeps contributions for fedkt forget --how own, which is refused in "
            f"privacy.mode '{mode}'; it must be false."
        )


def _has_values(world: World) -> bool:
    """Say whether clients send comparable ``values``: all of one shape."""
    sent = [world.behaviour.contribution(world.dims(client), world.settings) for client in world.shards]
    return all("values" in each for each in sent) and len({each["values"].shape for each in sent}) == 1


def _robust(world: World) -> Iterator[str]:
    name, robust, strategy = world.scenario.strategy.name, world.scenario.robust, world.strategy
    if robust.centre != "mean" and not strategy.takes_mean:
        yield (
            f"robust.centre is '{robust.centre}', but strategy '{name}' takes no mean of its clients' "
            "knowledge; it must be 'mean'."
        )
    if robust.filter != "none" and not _has_values(world):
        yield (
            f"robust.filter is '{robust.filter}', but clients of strategy '{name}' send no values that "
            "could be compared; it must be 'none'."
        )
    elif robust.filter == "probe":
        labels = world.federation.transfer_labels
        if not strategy.needs_transfer:
            yield (
                f"robust.filter is 'probe', but strategy '{name}' exchanges nothing about the transfer set; "
                "it must be another one."
            )
        elif labels is None or (labels >= 0).sum() < robust.probe_rows:
            known = 0 if labels is None else int((labels >= 0).sum())
            yield (
                f"robust.probe_rows is {robust.probe_rows}, but labels of {known} transfer rows are known; "
                "it must be at most their number."
            )


def _attacks(world: World) -> Iterator[str]:
    name, classes = world.scenario.strategy.name, world.federation.classes
    silent = world.strategy.shares in (("nothing",), ("data",))
    for number, attack in enumerate(world.scenario.attacks):
        for key in ("source", "target"):
            if getattr(attack, key) >= classes:
                yield (
                    f"attacks.{number}.{key} is {getattr(attack, key)}, but there are {classes} classes; "
                    f"it must be at most {classes - 1}."
                )
        if attack.kind not in ("none", "label-flip", "echo") and not silent and not _has_values(world):
            yield (
                f"attacks.{number}.kind is '{attack.kind}', but clients of strategy '{name}' send no values "
                "to lie about; it must be 'label-flip' or 'echo'."
            )
