"""``fedkt audit``: run a scenario with canaries in one client's data, and attack what it released.

The attacker is the server, or whoever chose the transfer set: records with labels of their own are among the
public rows, and a coin from the system's entropy decided for each whether the client also trained on it. What
was released decides which attacks there are (:mod:`fedkt.engine.audits.released`,
:mod:`fedkt.privacy.attacks.scores`); the bounds are those of :mod:`fedkt.privacy.attacks.audit`.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt import data
from fedkt.client.state import DiskStore, MemoryStore, StateStore
from fedkt.data import Federation
from fedkt.data.identity import data_hashes
from fedkt.data.sets.dataset import concat
from fedkt.engine.audits import exposed
from fedkt.engine.audits import inverted as inversion
from fedkt.engine.audits.claims import curves_of
from fedkt.engine.audits.released import Reader, Round, watch
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.app import make_app
from fedkt.engine.loop.loop import Loop
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.files import write_json
from fedkt.knowledge.contributions import Contributions
from fedkt.knowledge.kinds import Nothing
from fedkt.privacy.accounting import spent
from fedkt.privacy.attacks import audit, roc
from fedkt.privacy.attacks.one_run import Curves
from fedkt.privacy.curator import ledger_folder
from fedkt.privacy.ledger import Ledger
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Observer, Silent
from fedkt.scenario import Scenario

PICTURE = "roc.png"
ROWS = 500
"""Canaries, where nobody says how many."""
NO_DELTA = 1e-5
"""At which bounds are given where nothing is claimed."""


def audit_scenario(
    scenario: Scenario,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    canaries: int | None = None,
    lokt: bool = False,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Run the scenario once with canaries and return what the attack found; it is in ``audit.json``, too.

    ``canaries``: how many of the transfer rows (of the common test rows, where the strategy has no transfer
    set) get a planted label, None: 500; of text, how many sentences there are with secrets
    (:mod:`fedkt.engine.audits.exposed`), None: 16; ``lokt``: also reconstruct what another client's classes
    look like (:mod:`fedkt.engine.audits.inverted`). Raises InputError where nothing is released, or there are
    too few such rows, and where ``lokt`` has no images.
    """
    federation = data.build(scenario, data_dir)
    inline = scenario.engine.model_copy(update={"kind": "inline", "cohort": "off"})
    quiet = scenario.evaluate.model_copy(update={"every": scenario.rounds})
    private = scenario.privacy.model_copy(update={"ledger": None})  # an audit pays for nothing but itself
    scenario = scenario.model_copy(update={"engine": inline, "evaluate": quiet, "privacy": private})
    releases(checked_world(scenario, data_dir, federation))
    if federation.task.name == "language":
        return _audit_text(scenario, federation, out, data_dir, canaries, lokt, observer or Silent())
    canaries = ROWS if canaries is None else canaries
    rows, total = canary_source(federation)
    if not federation.task.exclusive:
        raise InputError(
            f"data.task is {federation.task.name}, but an audit plants rows of one class each, or sentences; "
            "it audits classification and language."
        )
    if federation.fresh:
        raise InputError(
            "data.transfer.refresh is round, so that no row is asked about twice, but an audit follows "
            "its canaries "
            "through all rounds; set it to never."
        )
    if not audit.FEWEST <= canaries <= total:
        raise InputError(
            f"--canaries is {canaries}; it must be at least {audit.FEWEST} and at most the {rows}'s {total} "
            "rows."
        )
    target = federation.shards[0].id
    planted, labels, members = plant(federation, canaries)
    world = checked_world(scenario, data_dir, planted, slots=_slots(scenario, federation, canaries))
    if lokt:
        inversion.check(world)
    folder = RunFolder.create(out, world.scenario, resume=False, data=data_hashes(federation))
    try:
        store = MemoryStore(DiskStore(folder.checkpoint / "clients"))
        reader = Reader(world, store, target, labels, len(federation.shards[0].rows))
        seen, summary = watched_run(world, store, folder, observer or Silent(), reader)
        epsilon, claim = _claim(world, store, folder, target)
        delta = scenario.privacy.delta or NO_DELTA
        rounds, judged, scores = attack(seen, labels, members, delta, claim)
        curves = {name: roc.curve(values, members) for name, values in scores.items()}
        found = _judged(scenario, target, judged, epsilon) | {
            "rounds": [{"round": n, **one.to_json()} for n, one in rounds],
            "label_leak": label_leaks(seen, planted),
            "decides": next(iter(scores)),
            "attacks": {name: audit.judge(v, members, delta).to_json() for name, v in scores.items()},
            "auc": {name: audit.area(v[members], v[~members]) for name, v in scores.items()},
            "roc": curves,
        }
        if lokt:  # of the last client: canaries with made-up labels are the first's
            found["lokt"] = inversion.lokt(world, store, federation.shards[-1].id, folder.path)
        _keep(folder, summary, found, members)
    finally:
        folder.close()
    return found


def _audit_text(
    scenario: Scenario,
    federation: Federation,
    out: Path | None,
    data_dir: Path | None,
    many: int | None,
    lokt: bool,
    observer: Observer,
) -> dict[str, Any]:
    """Run a scenario of text with sentences that hold secrets, and say who came to know them."""
    many = exposed.CANARIES if many is None else many
    problems = ["--lokt reconstructs images, of which text has none; leave it out."] if lokt else []
    if not audit.FEWEST <= many <= exposed.MOST:
        problems.append(
            f"--canaries is {many}; of text it must be at least {audit.FEWEST} and at most {exposed.MOST}."
        )
    if federation.transfer is None or federation.fresh:
        problems.append("there is no public text that stays the same, at which a client could be asked.")
    if scenario.data.speech is not None and scenario.data.speech.compare == "spans":
        problems.append("data.speech.compare is spans, but an audit reads what is said of bytes; set bytes.")
    if problems:
        raise InputError(*problems)
    target, private = federation.shards[0].id, scenario.privacy.mode != "none"
    canaries = exposed.Canaries.drawn(many, 1 if private else exposed.COPIES, _coins())
    slots = _slots(scenario, federation, many)
    world = checked_world(scenario, data_dir, canaries.planted(federation), slots=slots)
    folder = RunFolder.create(out, world.scenario, resume=False, data=data_hashes(federation))
    try:
        store = MemoryStore(DiskStore(folder.checkpoint / "clients"))
        listener = exposed.Listener(world, canaries)
        _, summary = watched_run(world, store, folder, observer, listener)
        epsilon, claim = _claim(world, store, folder, target)
        delta, members = scenario.privacy.delta or NO_DELTA, canaries.members
        scores = listener.scores(target)
        judged = audit.judge(scores, members, delta, claim)
        curves = {"likelihood": roc.curve(scores, members)}
        found = _judged(scenario, target, judged, epsilon) | {
            "decides": "likelihood",
            "auc": {"likelihood": judged.auc},
            "roc": curves,
            "exposure": exposed.found_in(world, store, canaries, target, listener.heard),
            "score": summary[world.federation.task.metric.part],
        }
        _keep(folder, summary, found, members)
    finally:
        folder.close()
    return found


def _judged(scenario: Scenario, target: str, judged: audit.Finding, epsilon: float | None) -> dict[str, Any]:
    """Return what every audit says: of what, what was claimed, what was found and the verdict."""
    return {
        "run": judged.to_json(),
        "scenario": scenario.name,
        "strategy": scenario.strategy.name,
        "mode": scenario.privacy.mode,
        "client": target,
        "claimed_epsilon": epsilon,
        "delta": scenario.privacy.delta or NO_DELTA,
        "verdict": audit.verdict(judged, epsilon),
    }


def _keep(
    folder: RunFolder, summary: dict[str, Any], found: dict[str, Any], members: NDArray[np.bool_]
) -> None:
    """Write an audit's picture and ``audit.json``, and finish the folder of its run."""
    roc.draw(found["roc"], 1 / int((~members).sum()), folder.path / PICTURE)
    folder.finish(summary)
    write_json(folder.path / "audit.json", found)


def plant(federation: Federation, canaries: int) -> tuple[Federation, NDArray[np.int64], NDArray[np.bool_]]:
    """Give the first client each canary by the toss of a coin.

    Canaries are the first transfer rows (test rows, where there is no transfer set), with labels drawn at
    random, so that only memory tells them. Returns the federation, the planted labels and who is a member,
    [canaries] each.
    """
    source = federation.test if federation.transfer is None else federation.transfer
    if source is None:
        raise ValueError("there are no rows to plant canaries of")
    coins = _coins()
    labels = coins.integers(0, federation.classes, canaries)
    members = audit.toss(canaries, coins)
    pool, rows = federation.pool, np.flatnonzero(members)
    added = source.take(rows)
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
    seen: list[Round],
    labels: NDArray[np.int64],
    members: NDArray[np.bool_],
    delta: float,
    claim: Curves | None,
) -> tuple[list[tuple[int, audit.Finding]], audit.Finding, dict[str, NDArray[np.float64]]]:
    """Score each canary in every round; judge the scores of each, and their sum against the claim.

    The attack that comes first decides. Returns also the scores [canaries] by attack, for their ROC curves.
    """
    total: dict[str, NDArray[np.float64]] = {}
    rounds = []
    for one in seen:
        found = {name: s for part in one.released for name, s in part.attacked(labels).items()}
        rounds.append((one.number, audit.judge(next(iter(found.values())), members, delta)))
        total |= {name: total.get(name, 0.0) + scores for name, scores in found.items()}
    if not total:  # no round was released, so the attacker knows nothing
        total = {"nothing": np.zeros(len(labels))}
    return rounds, audit.judge(next(iter(total.values())), members, delta, claim), total


def label_leaks(seen: list[Round], federation: Federation) -> dict[str, float]:
    """Return how far the clients' mean predictions are from their label shares, over all rounds.

    Label-share inference (Shi, Ouyang, Wang 2025, arXiv 2502.08001). ``released``: KL(true shares || mean
    prediction on the transfer rows) in nats, averaged over clients; ``nothing``: the same for who guesses
    that all clients have the mean shares of all. Below it something leaks. ``…_distance``: the same in total
    variation; ``relative_distance``: of the sharper attack :func:`~fedkt.privacy.attacks.audit.relative`.
    """
    shares = {shard.id: shard.share for shard in federation.shards}
    average = np.mean(list(shares.values()), axis=0)
    told, blind, near, far, sharp = [], [], [], [], []
    for one in seen:
        if one.answers is None:
            continue
        clients, values = one.clients, one.answers.values
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
    run, leak = found["run"], found.get("label_leak")
    lines = [
        f"canaries {run['canaries']}, guessed {run['guesses']}, right {run['right']}; "
        f"for the curve guessed {run['curve_guesses']}, right {run['curve_right']}",
        f"ROC-AUC {run['auc']:.3f}, TPR at 1 % FPR {run['tpr_at_1_percent_fpr']:.3f}, "
        f"advantage {run['advantage']:.3f}, exposure {run['exposure']:.2f} bits",
        "attacks (ROC-AUC): "
        + ", ".join(
            f"{name} {area:.3f}{', which decides' if name == found['decides'] else ''}"
            for name, area in found["auc"].items()
        ),
    ]
    if leak:
        lines.append(
            f"labels: KL {leak['released']:.3f} nats from the mean predictions, {leak['nothing']:.3f} "
            "without; "
            f"total variation {leak['released_distance']:.3f} ({leak['relative_distance']:.3f} beyond what "
            f"all say), {leak['nothing_distance']:.3f} without"
        )
    if "exposure" in found:
        lines.append(exposed.told(found["exposure"]))
    if "lokt" in found:
        lines.append(inversion.sentence(found["lokt"]))
    return "\n".join([*lines, found["verdict"]])


def watched_run(
    world: World,
    store: StateStore,
    folder: RunFolder,
    observer: Observer,
    reader: Callable[[int, Contributions], Round],
) -> tuple[list[Round], dict[str, Any]]:
    """Run a world in this process; return what was released, and the run's summary."""
    setting = world.setting(folder.run, folder.checkpoint / "server")
    strategy = world.strategy(world.config, setting)
    seen = watch(strategy, reader)
    loop = Loop(strategy, folder, observer, threading.Event())
    loop.run(InlineGrid(make_app(lambda: (world, store), raise_errors=True), len(world.shards)))
    return seen, loop.summary()


def releases(world: World) -> None:
    """Raise InputError where clients release nothing that could be attacked."""
    sends = world.behaviour.contribution(world.dims(world.names[0]), world.settings)
    if world.behaviour.sends is Nothing or not sends:
        raise InputError(
            f"strategy '{world.scenario.strategy.name}' releases nothing, so there is nothing to audit; "
            "audit one whose clients send something."
        )


def canary_source(federation: Federation) -> tuple[str, int]:
    """Return what canaries are rows of, and how many there are."""
    if federation.transfer is not None:
        return "transfer set", len(federation.transfer)
    return "common test set", 0 if federation.test is None else len(federation.test)


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

    return spent(events, delta, mode.unit).epsilon, curves_of(events, delta, mode.unit)


def _lengthened(names: Any, more: int) -> Any:
    return None if names is None else np.concatenate([names, names[:1].repeat(more)])


def _probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.min() >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3):
        return values
    raised = np.exp(values - values.max(-1, keepdims=True))
    found: NDArray[np.float64] = raised / raised.sum(-1, keepdims=True)
    return found
