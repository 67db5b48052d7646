"""``fedkt audit``: run a scenario with canaries in one client's data, and attack what it released.

The attacker is the server, or whoever chose the transfer set: records with labels of their own are among the
public rows, and a coin from the system's entropy decided for each whether the client also trained on it. The
attack reads nothing but released knowledge: how sure the client is of the planted label, beyond what the
other clients are (they never saw it), on average over rounds. Setting, bound:
:mod:`fedkt.privacy.attacks.audit`.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt import data
from fedkt.client.state import DiskStore, MemoryStore, StateStore
from fedkt.data import Federation
from fedkt.data.identity import data_hashes
from fedkt.data.sets.dataset import concat
from fedkt.engine.clients.app import make_app
from fedkt.engine.loop.loop import Loop
from fedkt.engine.runs import inverted as inversion
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world.checked import checked_world
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.files import write_json
from fedkt.knowledge.contributions import Contributions
from fedkt.privacy.accounting import spent, trade_off
from fedkt.privacy.attacks import audit, roc
from fedkt.privacy.attacks.one_run import Curves, Inverse, Points
from fedkt.privacy.curator import ledger_folder
from fedkt.privacy.ledger import Ledger
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Observer, Silent
from fedkt.scenario import Scenario
from fedkt.strategy.base import Strategy

PICTURE = "roc.png"
NO_DELTA = 1e-5
"""At which bounds are given where nothing is claimed."""
Seen = list[tuple[int, tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]]
"""What was released: round, clients, values [clients, rows, classes], the transfer rows."""


def audit_scenario(
    scenario: Scenario,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    canaries: int = 500,
    lokt: bool = False,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Run the scenario once with canaries and return what the attack found; it is in ``audit.json``, too.

    ``canaries``: how many of the transfer rows get a planted label; ``lokt``: also reconstruct what another
    client's classes look like (:mod:`fedkt.engine.runs.inverted`). Raises InputError where the strategy
    releases no predictions on transfer rows, or there are too few of them, and where ``lokt`` has no images.
    """
    federation = data.build(scenario, data_dir)
    total = 0 if federation.transfer is None else len(federation.transfer)
    inline = scenario.engine.model_copy(update={"kind": "inline", "cohort": "off"})
    quiet = scenario.evaluate.model_copy(update={"every": scenario.rounds})
    private = scenario.privacy.model_copy(update={"ledger": None})  # an audit pays for nothing but itself
    scenario = scenario.model_copy(update={"engine": inline, "evaluate": quiet, "privacy": private})
    if checked_world(scenario, data_dir, federation).strategy.needs_transfer is False or not total:
        raise InputError(
            f"strategy '{scenario.strategy.name}' releases nothing about single rows, which this audit "
            "attacks; audit one that exchanges predictions on a transfer set."
        )
    if federation.fresh:
        raise InputError(
            "data.transfer.refresh is round, so that no row is asked about twice, but an audit follows "
            "its canaries "
            "through all rounds; set it to never."
        )
    if not 40 <= canaries <= total:
        raise InputError(
            f"--canaries is {canaries}; it must be at least 40 and at most the transfer set's {total} rows."
        )
    target = federation.shards[0].id
    planted, labels, members = plant(federation, canaries)
    world = checked_world(scenario, data_dir, planted, slots=_slots(scenario, federation, canaries))
    if lokt:
        inversion.check(world)
    folder = RunFolder.create(out, world.scenario, resume=False, data=data_hashes(federation))
    try:
        store = MemoryStore(DiskStore(folder.checkpoint / "clients"))
        seen, summary = _watched_run(world, store, folder, observer or Silent())
        epsilon, claim = _claim(world, store, folder, target)
        delta = scenario.privacy.delta or NO_DELTA
        rounds, judged, scores = attack(seen, target, labels, members, delta, claim)
        curves = {name: roc.curve(values, members) for name, values in scores.items()}
        found: dict[str, Any] = {"rounds": [{"round": n, **one.to_json()} for n, one in rounds]}
        found |= {
            "run": judged.to_json(),
            "scenario": scenario.name,
            "strategy": scenario.strategy.name,
            "mode": scenario.privacy.mode,
            "client": target,
            "claimed_epsilon": epsilon,
            "delta": delta,
            "label_leak": label_leaks(seen, planted),
            "auc": {name: audit.area(v[members], v[~members]) for name, v in scores.items()},
            "roc": curves,
            "verdict": audit.verdict(judged, epsilon),
        }
        if lokt:  # of the last client: canaries with made-up labels are the first's
            found["lokt"] = inversion.lokt(world, store, federation.shards[-1].id, folder.path)
        roc.draw(curves, 1 / int((~members).sum()), folder.path / PICTURE)
        folder.finish(summary)
        write_json(folder.path / "audit.json", found)
    finally:
        folder.close()
    return found


def plant(federation: Federation, canaries: int) -> tuple[Federation, NDArray[np.int64], NDArray[np.bool_]]:
    """Give the first client each canary by the toss of a coin.

    Canaries are the first transfer rows, with labels drawn at random, so that only memory tells them. Returns
    the federation, the planted labels and who is a member, [canaries] each.
    """
    if federation.transfer is None:
        raise ValueError("there is no transfer set to plant canaries in")
    coins = _coins()
    labels = coins.integers(0, federation.classes, canaries)
    members = coins.random(canaries) < 0.5
    pool, rows = federation.pool, np.flatnonzero(members)
    added = federation.transfer.take(rows)
    bigger = replace(
        pool,
        x=concat([pool, added]).x,  # made images have whole grey levels, private ones may not
        y=np.concatenate([pool.y, labels[rows]]),
        domain=_lengthened(pool.domain, len(rows)),
        ids=_lengthened(pool.ids, len(rows)),
    )
    first, *others = federation.shards
    taken = np.concatenate([first.rows, len(pool) + np.arange(len(rows))])
    counts = np.bincount(bigger.y[taken], minlength=federation.classes)
    first = replace(first, rows=taken, share=counts / counts.sum())
    shards = (first, *others)
    return replace(federation, pool=bigger, shards=shards, _kept={}), labels, members


def attack(
    seen: Seen,
    target: str,
    labels: NDArray[np.int64],
    members: NDArray[np.bool_],
    delta: float,
    claim: Curves | None,
) -> tuple[list[tuple[int, audit.Finding]], audit.Finding, dict[str, NDArray[np.float64]]]:
    """Score each canary in every round; judge the scores of each, and their mean against the claim.

    Returns also the scores [canaries] by attack: ``margin``, which is what is judged, and ``cooperative``
    (:func:`~fedkt.privacy.attacks.audit.cooperative`), for its ROC curve.
    """
    total, likelihood = np.zeros(len(labels)), np.zeros(len(labels))
    rounds = []
    for number, clients, values, rows in seen:
        scores = np.zeros(len(labels))
        there = np.flatnonzero(rows < len(labels))
        asked = rows[there]
        own = clients.index(target) if target in clients else 0
        margin = np.stack([audit.margins(client[there], labels[asked]) for client in values])
        others = np.delete(margin, own, 0)
        scores[asked] = margin[own] - (others.mean(0) if len(others) else 0.0)
        total += scores
        if len(others):
            likelihood[asked] += audit.cooperative(margin[own], others)
        rounds.append((number, audit.judge(scores, members, delta)))
    named = {"margin": total, "cooperative": likelihood}
    return rounds, audit.judge(total, members, delta, claim), named


def label_leaks(seen: Seen, federation: Federation) -> dict[str, float]:
    """Return how far the clients' mean predictions are from their label shares, over all rounds.

    Label-share inference (Shi, Ouyang, Wang 2025, arXiv 2502.08001). ``released``: KL(true shares || mean
    prediction on the transfer rows) in nats, averaged over clients; ``nothing``: the same for who guesses
    that all clients have the mean shares of all. Below it something leaks. ``…_distance``: the same in total
    variation; ``relative_distance``: of the sharper attack :func:`~fedkt.privacy.attacks.audit.relative`.
    """
    shares = {shard.id: shard.share for shard in federation.shards}
    average = np.mean(list(shares.values()), axis=0)
    told, blind, near, far, sharp = [], [], [], [], []
    for _, clients, values, _ in seen:
        means = np.stack([_probabilities(predicted).mean(0) for predicted in values])
        guessed = dict(zip(clients, audit.relative(means, average), strict=True))
        sharp += [audit.distance(guessed[one], shares[one]) for one in clients if one in shares]
        for client, predicted in zip(clients, values, strict=True):
            if client in shares:
                told.append(audit.label_leak(_probabilities(predicted), shares[client]))
                blind.append(audit.label_leak(average[None], shares[client]))
                near.append(audit.distance(_probabilities(predicted).mean(0), shares[client]))
                far.append(audit.distance(average, shares[client]))
    found = {"released": told, "nothing": blind, "released_distance": near, "nothing_distance": far}
    found["relative_distance"] = sharp
    return {name: float(np.mean(values)) for name, values in found.items()} if told else {}


def report(found: Mapping[str, Any]) -> str:
    """Return what was found, in a few lines."""
    run, leak = found["run"], found["label_leak"]
    lines = [
        f"canaries {run['canaries']}, guessed {run['guesses']}, right {run['right']}; "
        f"for the curve guessed {run['curve_guesses']}, right {run['curve_right']}",
        f"ROC-AUC {run['auc']:.3f}, TPR at 1 % FPR {run['tpr_at_1_percent_fpr']:.3f}, "
        f"advantage {run['advantage']:.3f}, exposure {run['exposure']:.2f} bits",
    ]
    if leak:
        lines.append(
            f"labels: KL {leak['released']:.3f} nats from the mean predictions, {leak['nothing']:.3f} "
            "without; "
            f"total variation {leak['released_distance']:.3f} ({leak['relative_distance']:.3f} beyond what "
            f"all say), {leak['nothing_distance']:.3f} without"
        )
    if "lokt" in found:
        lines.append(inversion.sentence(found["lokt"]))
    return "\n".join([*lines, found["verdict"]])


def _watched_run(
    world: World, store: StateStore, folder: RunFolder, observer: Observer
) -> tuple[Seen, dict[str, Any]]:
    setting = world.setting(folder.run, folder.checkpoint / "server")
    strategy = world.strategy(world.config, setting)
    seen = _watch(strategy)
    loop = Loop(strategy, folder, observer, threading.Event())
    loop.run(InlineGrid(make_app(lambda: (world, store), raise_errors=True), len(world.shards)))
    return seen, loop.summary()


def _watch(strategy: Strategy) -> Seen:
    """Note what the attacker sees of each round: contributions, or at a trusted server what leaves it."""
    seen: Seen = []
    opened = strategy.course.open

    def note(server_round: int, contributions: Contributions) -> Contributions | None:
        found = opened(server_round, contributions)
        if found is not None:
            rows = np.arange(found.values.shape[1]) if found.rows is None else found.rows.numpy()
            seen.append((server_round, found.clients, found.values.double().numpy(), rows.astype(np.int64)))
        return found

    vars(strategy.course)["open"] = note
    return seen


def _coins() -> np.random.Generator:
    """Return what tosses the coins, from the system's entropy."""
    return np.random.default_rng(int.from_bytes(os.urandom(32), "big"))


def _slots(scenario: Scenario, federation: Federation, canaries: int) -> dict[str, int]:
    """Return the public number of rows that the audited client's training counts.

    Where a record may be zeroed out, each canary has a slot, which its coin leaves empty or not; where one
    may be added or removed, ``privacy.rows`` and the canaries that are to be expected.
    """
    first, rows = federation.shards[0], scenario.privacy.rows
    return {first.id: len(first.rows) + canaries if rows is None else rows + canaries // 2}


def _claim(
    world: World, store: StateStore, folder: RunFolder, target: str
) -> tuple[float | None, Curves | None]:
    """Return what the run claims for the client with the canaries: epsilon, and the curves of its ledger."""
    mode, delta = world.mode, world.scenario.privacy.delta
    if mode is None or delta is None:
        return None, None
    server = folder.checkpoint / "server"
    own, name = (server, "server") if mode.at_server else (store.folder_of(target), target)
    events = Ledger(ledger_folder(world.scenario.privacy, own, name)).events()
    if not events or any(event.noise <= 0 for event in events):
        return None, None

    def epsilon(noise: float) -> float:
        return spent([event.scaled(noise) for event in events], delta, mode.unit).epsilon

    @cache
    def curve(noise: float) -> Inverse:
        return Points(*trade_off([event.scaled(noise) for event in events]))

    return epsilon(1.0), Curves(epsilon, curve)


def _lengthened(names: Any, more: int) -> Any:
    return None if names is None else np.concatenate([names, names[:1].repeat(more)])


def _probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.min() >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3):
        return values
    raised = np.exp(values - values.max(-1, keepdims=True))
    found: NDArray[np.float64] = raised / raised.sum(-1, keepdims=True)
    return found
