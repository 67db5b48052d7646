"""Whether something was forgotten: seven numbers beside those of before, of a replay and of another replay.

A class at 0 % says little: a model that only hides it relearns it in a few steps, and the next fusion with
peers that hold it brings it back. What is judged is the client's model; where a client left, those of all
others; where everybody forgets, all. A replay with another seed has the noise floor: how far two models are
apart that both never learned it.
"""

import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt import data
from fedkt import scenario as scenarios
from fedkt.client.state import DiskStore
from fedkt.client.training import one_thread, predict
from fedkt.data.federation import Shard
from fedkt.data.identity import data_hashes
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.forgetting import numbers
from fedkt.engine.forgetting.asked import Forgetting, check_judge
from fedkt.engine.forgetting.continued import go_on
from fedkt.engine.forgetting.withdrawal import Forgotten, replay
from fedkt.engine.loop import checkpoint
from fedkt.engine.runs.run import simulate
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.models import Net
from fedkt.privacy.attacks.audit import area
from fedkt.results.observer import Observer
from fedkt.scenario import Scenario

OTHER_SEED = 1000
"""What the seed of the second replay is more by."""
ROUNDS = 5
"""Rounds after which is looked whether something came back."""
NAMES = ("before", "after", "retrained", "retrained, another seed")


@dataclass(frozen=True)
class Look:
    """What one client's model says: of test rows and of the forgotten ones."""

    net: Net
    test: Tensor
    features: Tensor
    forgotten: Tensor


class Judge:
    """Measures one run after another with the same rows."""

    def __init__(self, world: World, what: Forgetting) -> None:
        self.world, self.what = world, what
        self.clients = [c for c in world.names if c not in what.clients] if what.whole else list(what.clients)
        self.seed = world.scenario.seed

    def looks(self, folder: Path) -> dict[str, Look]:
        """Return what each judged client's newest model in a run's folder says."""
        store, found = DiskStore(folder / "checkpoint" / "clients"), {}
        last = 2 * checkpoint.read(folder / "checkpoint").round + 2
        for client in self.clients:
            state = store.load(client, last)
            if state is None:
                continue
            net = self.world.net(client)
            net.load_state_dict(state.part("model"))
            features, logits = predict(net, self.test(client)[0])
            rows = self.rows(client, self.what.rows)
            found[client] = Look(
                net, logits, features, predict(net, rows[0])[1] if len(rows[1]) else logits[:0]
            )
        return found

    def test(self, client: str) -> tuple[Tensor, Tensor]:
        """Return the test rows of a client: the common ones, else its own."""
        shard, federation = self.world.shards[client], self.world.federation
        return (
            federation.test_tensors(shard)
            if federation.test is not None
            else federation.own_test_tensors(shard)
        )

    def rows(self, client: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return training rows, whosever they are, as this client sees them."""
        federation = self.world.federation
        known = federation.statistics(self.world.shards[client])
        return federation.preprocess.tensor(federation.pool.x[rows], known), torch.from_numpy(
            federation.pool.y[rows]
        )

    def accuracies(self, looks: dict[str, Look]) -> tuple[float | None, float | None]:
        """Return the mean accuracy on what was forgotten and on the rest."""
        on, rest = [], []
        for client, look in looks.items():
            y, label = self.test(client)[1], self.what.label
            right = (look.test.argmax(-1) == y).double()
            if label is None:
                on.append((look.forgotten.argmax(-1) == self.rows(client, self.what.rows)[1]).double().mean())
                rest.append(right.mean())
            elif (y == label).any():
                on.append(right[y == label].mean())
                rest.append(right[y != label].mean())
        return _mean(on), _mean(rest)

    def of(
        self, looks: dict[str, Look], before: dict[str, Look], retrained: dict[str, Look], same: bool
    ) -> dict[str, float | None]:
        """Return the first six numbers; ``same``: whether these are the looks of before."""
        on, rest = self.accuracies(looks)
        found: dict[str, float | None] = {"forgotten": on, "rest": rest}
        found["kl"] = _mean([numbers.divergence(retrained[c].test, look.test) for c, look in looks.items()])
        losses, pairs, steps, traces = [], [], [], []
        for client, look in looks.items():
            x, y = self.test(client)
            held = self.rows(client, self.what.rows)[1]
            alike = torch.isin(y, held)
            if len(held) and alike.any():
                inside, outside = (
                    numbers.surprise(look.forgotten, held),
                    numbers.surprise(look.test[alike], y[alike]),
                )
                losses.append(area(-inside, -outside))
                was = before[client]
                # Who keeps both versions sees how much more surprised the later one is by a row.
                grown = inside - numbers.surprise(was.forgotten, held)
                pairs.append(area(grown, outside - numbers.surprise(was.test[alike], y[alike])))
            if self.what.label is not None and (y == self.what.label).any():
                traces.append(self._probed(client, look, y))
                steps.append(self._relearned(client, look, x[y == self.what.label]))  # which trains the model
        found["loss_attack"], found["paired_attack"] = _mean(losses), None if same else _mean(pairs)
        found["relearning_steps"], found["probe"] = _mean(steps), _mean([t for t in traces if t is not None])
        return found

    def _pool(self) -> NDArray[np.int64]:
        return np.sort(np.concatenate([shard.rows for shard in self.world.federation.shards]))

    def _relearned(self, client: str, look: Look, test: Tensor) -> int:
        label, mine = self.what.label, self.world.shards[client].rows
        assert label is not None
        y, pool = self.world.federation.pool.y, self._pool()
        others = self.rows(client, mine[y[mine] != label])
        return numbers.relearning(
            look.net, others, self.rows(client, pool[y[pool] == label])[0], label, test, self.seed
        )

    def _probed(self, client: str, look: Look, test_y: Tensor) -> float | None:
        assert self.what.label is not None
        x, y = self.rows(client, self._pool())
        features, _ = predict(look.net, x)
        return numbers.probe(features, y, look.features, test_y, self.what.label, self.seed)


def judged(
    run: Path, forgotten: Forgotten, *, data_dir: Path | None = None, observer: Observer | None = None
) -> dict[str, Any]:
    """Return the seven numbers of the new run, of the old one and of two replays, as ``forget.json`` has
    them.

    Costs two replays (one where the new run is one), and runs that go on for five rounds. Raises InputError
    where there is nothing to judge by.
    """
    before = scenarios.load(run / "scenario.yaml")
    what, folder = forgotten.what, forgotten.result.path
    after = what.scenario(before)
    world = checked_world(before, data_dir)
    check_judge(world, what)
    judge = Judge(world, what)
    with tempfile.TemporaryDirectory() as name, one_thread():
        folders = {"before": run, "after": folder, "retrained": Path(name, "retrained")}
        if what.how == "replay":
            folders["retrained"] = folder
        else:
            replay(run, after, what, folders["retrained"], data_dir=data_dir, observer=observer)
        folders[NAMES[3]] = Path(name, "other")
        other = after.model_copy(update={"seed": after.seed + OTHER_SEED})
        federation = data.build(after, data_dir)
        replay(
            run, other, what, folders[NAMES[3]], data_dir=data_dir, observer=observer, federation=federation
        )
        looks = {name: judge.looks(place) for name, place in folders.items()}
        found = {
            name: judge.of(its, looks["before"], looks["retrained"], same=name == "before")
            for name, its in looks.items()
        }
        accuracy = found["before"]["forgotten"], found["after"]["forgotten"]
        returns = {
            guard: come_back(judge, folder, scenario, Path(name, guard), data_dir)
            for guard, scenario in _guards(after, what, judge).items()
        }
    steps = found["retrained"]["relearning_steps"]
    for its in found.values():
        taken = its["relearning_steps"]
        its["relearning_index"] = None if taken is None or steps is None else numbers.anamnesis(taken, steps)
    return {
        "judged": judge.clients,
        "numbers": found,
        "return": {
            guard: {"accuracy": later, "index": _index(accuracy, later)} for guard, later in returns.items()
        },
        "passes": passes(found, {guard: _index(accuracy, later) for guard, later in returns.items()}),
    }


def come_back(
    judge: Judge, folder: Path, scenario: Scenario, to: Path, data_dir: Path | None
) -> list[float | None]:
    """Return the accuracy on what was forgotten after each of the next rounds; empty where there are none.

    A run whose settings follow from its number of rounds cannot go on.
    """
    hashes = data_hashes(judge.world.federation)
    later: list[float | None] = []
    rounds = checkpoint.read(folder / "checkpoint").round
    place = folder
    for more in range(1, ROUNDS + 1):
        longer = scenario.model_copy(update={"rounds": rounds + more})
        new = to / str(more)
        try:
            go_on(place, new, longer, hashes)
            simulate(longer, out=new, resume=True, data_dir=data_dir)
        except InputError:
            return []
        later.append(judge.accuracies(judge.looks(new))[0])
        if place != folder:
            shutil.rmtree(place)
        place = new
    return later


def passes(
    found: dict[str, dict[str, float | None]], index: dict[str, float | None]
) -> dict[str, bool | None]:
    """Say of each number whether the new run is as far from the old one as a replay is; None: not measured.

    Accuracies and areas within 1.2 times the distance of the two replays, at least 2 points; the divergence
    within 1.5 times; at least 0.8 times the steps to learn again; a return index below 0.05 as the run goes
    on.
    """
    after, retrained, other = (found[name] for name in NAMES[1:])
    said: dict[str, bool | None] = {}
    for name in ("forgotten", "rest", "loss_attack", "paired_attack", "probe"):
        values = [after[name], retrained[name], other[name]]
        if any(value is None for value in values):
            said[name] = None
            continue
        mine, its, floor = (value for value in values if value is not None)
        said[name] = abs(mine - its) <= max(1.2 * abs(floor - its), 0.02)
    mine_kl, floor_kl = after["kl"], other["kl"]
    said["kl"] = None if mine_kl is None or floor_kl is None else mine_kl <= 1.5 * floor_kl
    taken = after["relearning_index"]
    said["relearning_steps"] = None if taken is None else taken >= 0.8
    back = index.get("as it goes on")
    said["return"] = None if back is None else back < 0.05
    return said


def _guards(after: Scenario, what: Forgetting, judge: Judge) -> dict[str, Scenario]:
    """Return how the run may go on: as it is, and where a class is kept out, without that guard."""
    found = {"as it goes on": after}
    if what.label is not None:
        part, shards = after.participation, judge.world.shards
        blocked = {name: tuple(c for c in given if c != what.label) for name, given in part.blocked.items()}
        rows = dict(part.withdrawn_rows)
        for client in what.clients:
            mine = np.intersect1d(what.rows, _held(shards[client]))
            if len(mine):
                rows[client] = tuple(mine.tolist())
        open_ = {"blocked": {name: given for name, given in blocked.items() if given}, "withdrawn_rows": rows}
        found["without the blocked class"] = after.model_copy(
            update={"participation": part.model_copy(update=open_)}
        )
    return found


def _held(shard: Shard) -> NDArray[np.int64]:
    return np.concatenate([shard.rows, shard.validation])


def _index(accuracy: tuple[float | None, float | None], later: Sequence[float | None]) -> float | None:
    """Return the largest return index of the rounds that were looked at."""
    before, after = accuracy
    if before is None or after is None:
        return None
    each = [numbers.return_index(before, after, value) for value in later if value is not None]
    known = [value for value in each if value is not None]
    return max(known) if known else None


def _mean(values: Sequence[Any]) -> float | None:
    return float(statistics.fmean(float(value) for value in values)) if values else None
