"""A fresh student: a client's model from new random weights, taught by its last teacher without a class.

What is left of a class in the weights of a model that was made to forget it is found by teaching it again:
one that distilled its own masked predictions relearns in few steps. New weights hold none of it. The student
goes through as many rounds as the client did, each with its training on the rows that stay and its
distillation, twice as long; the teacher of all of them is the last one that the client has, without the
class. Where it has none, what the old model says of the transfer set is.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fedkt.client.behaviour import Client, Fit
from fedkt.client.digesting import digestion
from fedkt.client.joint import joined
from fedkt.client.lessons.blocking import masked
from fedkt.client.state import ClientState, DiskStore, MemoryStore
from fedkt.client.training import OptimState, fit, one_thread, predict, tensors_of
from fedkt.distill.losses import as_logits
from fedkt.engine.clients.jobs import lockstep
from fedkt.engine.clients.measuring import held_in
from fedkt.engine.clients.party import Party
from fedkt.engine.forgetting.continued import Made
from fedkt.engine.loop import checkpoint
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.knowledge.kinds import Logits
from fedkt.knowledge.protocol import Binding, Request
from fedkt.models import Net
from fedkt.results.folder import read_rows
from fedkt.results.metrics import parted

LONGER = 2
"""How many times the epochs of distillation a round has: one teacher stands for all, from the first round
on."""
AGAIN = 1
"""Tells the new weights' seed from that of the first ones."""


def fresh_student(run: Path, world: World, client: str) -> Made:
    """Return a new model of a client, taught by what it has at the end of a run.

    ``world``: of the scenario in which the client does not hold what it forgets. The optimiser begins anew.
    Raises InputError where the run has no model of the client, or it is an estimator.
    """
    if world.refits(client):
        raise InputError(
            f"--how fresh teaches a new net in steps, but the model of client '{client}' is an estimator, "
            "which is fitted anew in each round; --how own or replay forgets."
        )
    number = checkpoint.read(run / "checkpoint").round
    before = DiskStore(run / "checkpoint" / "clients").load(client, 2 * number + 2)
    if before is None:
        raise InputError(f"{run} has no model of client '{client}'.")
    rows = [row for row in read_rows(run / "clients.jsonl") if str(row["client"]) == client]
    rounds = sum(row["status"] == "accepted" for row in rows)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "teacher": {}}
    for key, tensor in before.tensors.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = tensor
    old, new = world.net(client), world.net(client, again=AGAIN)
    old.load_state_dict(parts["model"])
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        behaviour = world.about(world.player(client, held_in(world, client, number)), number)
        told = {**world.settings, "classes": world.federation.classes}
        teacher = masked(behaviour.accepts, parts["teacher"], world.blocked(client), told)
        lesson = behaviour.digest(teacher) if teacher else None
        if lesson is None:
            lesson = _of_its_own(world, client, behaviour, old)
        _taught(world, client, behaviour, new, teacher, lesson, rounds)
        tensors = {f"model/{name}": tensor for name, tensor in tensors_of(new).items()}
        tensors |= {f"teacher/{name}": tensor for name, tensor in teacher.items()}
        tensors |= {f"statistics/{name}": tensor for name, tensor in parts.get("statistics", {}).items()}
        note = {**before.note, "digested": number, "prepared": True, "taught": True, "kept": 0}
        if behaviour.decides_own and (prior := behaviour.prior()) is not None:
            note["prior"] = prior.tolist()
        state = ClientState(tensors, note)
        store = MemoryStore(DiskStore(Path(folder)))
        store.save(client, 2 * number, state, 0)
        asked = Request(Binding("", number, world.transfer_hash_in(number)), evaluate=True)
        (reply,) = lockstep([Party(world, store, client).evaluate(asked, lambda _: None)])
    return Made(state, parted(reply.metrics)[1])


def _of_its_own(world: World, client: str, behaviour: Client, old: Net) -> Fit:
    """Return the distillation of what the old model says of the transfer set, without the class."""
    x = behaviour.holding.transfer
    assert x is not None  # refused before
    _, said = predict(old, x)
    left = masked(Logits, {"values": said.softmax(-1)}, world.blocked(client), {"form": "probabilities"})
    rows = left.get("rows", torch.arange(len(x))).long()
    return digestion(behaviour.holding, x[rows], as_logits(left["values"], world.settings["temperature"]))


def _taught(
    world: World,
    client: str,
    behaviour: Client,
    net: Net,
    teacher: dict[str, Tensor],
    lesson: Fit,
    rounds: int,
) -> None:
    """Take a model through rounds of training and distillation."""
    states: dict[str, OptimState] = {}
    longer = replace(lesson, steps=replace(lesson.steps, epochs=LONGER * lesson.steps.epochs))
    for number in range(1, rounds + 1):
        training = behaviour.train(teacher or None)
        if training is not None and world.together and lesson.size:
            training = joined(training, lesson, weight=world.scenario.clients.distill.weight)
        for phase in (training, longer):
            if phase is not None:
                told = states.get(phase.name, {})
                seed = world.scenario.seed
                states[phase.name] = fit(net, phase, told, seed=seed, client=client, round_=number)
