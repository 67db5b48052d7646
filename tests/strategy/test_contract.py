"""One contract for every registered strategy, on a small run that is driven step by step."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from torch import Tensor

from fedkt import registry
from fedkt.client.state import DiskStore, MemoryStore
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.app import make_app
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.files import read_tensors, write_tensors
from fedkt.knowledge import Expected, row_ids
from fedkt.knowledge.protocol import Binding, Request
from fedkt.scenario import Robust, Scenario, load
from fedkt.strategy import Contributions, Fused, Outcome, Strategy

NAMES = registry.names("strategies")
TEACHING = [name for name in NAMES if name != "local"]
WITH_ROWS = [name for name in NAMES if registry.find("strategies", name).needs_transfer]
EVERYONE = ["0", "1", "2", "3"]
SIZE = 50
ROUNDS = 3

every_strategy = pytest.mark.parametrize("name", NAMES)
every_teacher = pytest.mark.parametrize("name", TEACHING)

Teachers = dict[str, dict[str, Tensor]]
Meddle = Callable[[int, str, list[Message]], list[Message]]
"""May lose or reorder the replies of a stage (``train``, ``evaluate``) of a round."""


def scenario(name: str, **more: Any) -> Scenario:
    """Four clients with skewed labels and one small model."""
    transfer = {"size": SIZE, **more.pop("transfer", {})}
    return load(
        {
            "name": "contract",
            "data": {
                "partition": {"kind": "dirichlet", "alpha": 0.5, "clients": 4, "samples_per_client": 60},
                "transfer": transfer,
                "public": {"size": 40},
            },
            "clients": {
                "models": [{"name": "mlp", "width": 16, "hidden": [16]}],
                "local": {"epochs": 1},
                "distill": {"epochs": 1},
            },
            "strategy": {"name": name, **more.pop("settings", {})},
            "rounds": ROUNDS,
            "engine": {"kind": "inline"},
            "allow": ["weights", "features"],
            **more,
        },
        several=True,
    )


@lru_cache
def federation_of(seed: int) -> Any:
    return checked_world(scenario("knfu", seed=seed)).federation


def world_of(described: Scenario) -> World:
    """Build the world; what clients hold depends on the seed alone here, and is built once."""
    return World(described, federation_of(described.seed))


def strategy_of(world: World) -> Strategy:
    return world.strategy(world.config, world.setting("run", Path()))


@dataclass
class Stage:
    """One exchange: what was sent and what came back, and what the strategy made of it."""

    round: int
    kind: str
    sent: list[Message]
    replies: list[Message]
    outcomes: dict[str, Outcome]
    aggregated: Any


@dataclass
class Run:
    """A strategy at work; ``teachers[r - 1]`` are everybody's after round r."""

    world: World
    strategy: Strategy
    store: MemoryStore
    grid: InlineGrid
    meddle: Meddle = lambda number, kind, replies: replies
    done: int = 0
    stages: list[Stage] = field(default_factory=list)
    teachers: list[Teachers] = field(default_factory=list)
    fused: list[Contributions] = field(default_factory=list)

    def play(self, rounds: int) -> "Run":
        """Do what the engine's loop does, without results."""
        nothing = (ArrayRecord(), ConfigRecord())
        for number in range(self.done + 1, self.done + rounds + 1):
            strategy = self.strategy
            sent = list(strategy.configure_train(number, *nothing, self.grid))
            self._exchange(number, "train", sent, strategy.aggregate_train)
            strategy.course.wants_metrics = frozenset(
                EVERYONE if number == self.world.scenario.rounds else ()
            )
            sent = list(strategy.configure_evaluate(number, *nothing, self.grid))
            self._exchange(number, "evaluate", sent, strategy.aggregate_evaluate)
            self.teachers.append(
                {c: copied(t) for c in EVERYONE if (t := strategy.teachers.of(c)) is not None}
            )
        self.done += rounds
        return self

    def at(self, number: int, kind: str) -> Stage:
        return next(stage for stage in self.stages if (stage.round, stage.kind) == (number, kind))

    def client(self, message: Message) -> str:
        """Return the client that a message goes to."""
        return self.strategy.course.asking._nodes[message.metadata.dst_node_id]

    def _exchange(
        self, number: int, kind: str, sent: list[Message], aggregate: Callable[[int, Iterable[Message]], Any]
    ) -> None:
        replies = self.meddle(number, kind, list(self.grid.send_and_receive(sent)))
        aggregated = aggregate(number, replies)
        outcomes = dict(self.strategy.course.outcomes)
        self.stages.append(Stage(number, kind, sent, replies, outcomes, aggregated))


def begin(described: Scenario, folder: Path, meddle: Meddle | None = None, world: World | None = None) -> Run:
    world = world or world_of(described)
    store = MemoryStore(DiskStore(folder / "clients"))
    grid = InlineGrid(make_app(lambda: (world, store), raise_errors=True), len(world.shards))
    run = Run(world, strategy_of(world), store, grid)
    if meddle is not None:
        run.meddle = meddle
    fuse = run.strategy.fuse

    def spied(contributions: Contributions) -> Fused | None:
        run.fused.append(contributions)
        return fuse(contributions)

    vars(run.strategy)["fuse"] = spied
    return run


def copied(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in arrays.items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Say whether both hold the same arrays, bit for bit."""
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def all_same(a: Teachers, b: Teachers) -> bool:
    return a.keys() == b.keys() and all(same(a[client], b[client]) for client in a)


def states(run: Run) -> Teachers:
    """Everything that clients remember."""
    found = {}
    for client in EVERYONE:
        state = run.store.load(client, below=2 * run.done + 2)
        assert state is not None
        found[client] = state.tensors
    return found


def lose(*replies: tuple[int, str, str]) -> Meddle:
    """Lose the replies of (round, kind, client)."""

    def meddle(number: int, kind: str, messages: list[Message]) -> list[Message]:
        gone = {100 + int(client) for r, k, client in replies if (r, k) == (number, kind)}
        return [m for m in messages if m.metadata.src_node_id not in gone]

    return meddle


def payload(content: RecordDict) -> int:
    """Bytes of every array in a message."""
    return sum(len(array.data) for record in content.array_records.values() for array in record.values())


def fits(sent: int, *parts: Expected) -> bool:
    """Say whether these are the bytes of the arrays: exactly, or at most where some are packed."""
    specs = [spec for expected in parts for spec in expected.values()]
    most = sum(spec.nbytes for spec in specs)
    if any(spec.packed for spec in specs):
        return sum(spec.nbytes for spec in specs if not spec.packed) < sent <= most
    return sent == most


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run that nothing happens to, by strategy."""

    @lru_cache
    def played(name: str) -> Run:
        return begin(scenario(name), tmp_path_factory.mktemp(name)).play(ROUNDS)

    return played


@every_strategy
def test_everybody_is_asked_taught_and_measured(name: str, usual: Callable[[str], Run]) -> None:
    run = usual(name)
    for stage in run.stages:
        assert {outcome.status for outcome in stage.outcomes.values()} <= {"accepted"}
    for number in range(1, ROUNDS + 1):
        assert list(run.at(number, "train").outcomes) == EVERYONE
        assert run.at(number, "train").aggregated[1]["clients"] == 4
    assert list(run.teachers[-1]) == ([] if name == "local" else EVERYONE)
    last = run.at(ROUNDS, "evaluate")
    for outcome in last.outcomes.values():
        assert 0.0 <= outcome.metrics["personal"] <= 1.0
        # Who is taught and measured in one message is measured before and after.
        assert ("before_digest" in outcome.metrics) == (name != "local")
    personal = [outcome.metrics["personal"] for outcome in last.outcomes.values()]
    assert last.aggregated["personal"] == pytest.approx(np.mean(personal))
    if name != "local":
        assert all(run.at(1, "evaluate").outcomes[client].taught == 1 for client in EVERYONE)
        assert not all_same(run.teachers[0], run.teachers[1])


@every_strategy
def test_the_same_seed_gives_the_same_teachers(
    name: str, usual: Callable[[str], Run], tmp_path: Path
) -> None:
    first, again = usual(name), begin(scenario(name), tmp_path).play(ROUNDS)
    for a, b in zip(first.teachers, again.teachers, strict=True):
        assert all_same(a, b)
    assert all_same(states(first), states(again))


@every_teacher
def test_another_seed_gives_other_teachers(name: str, usual: Callable[[str], Run], tmp_path: Path) -> None:
    other = begin(scenario(name, seed=1), tmp_path).play(1)
    assert not all_same(usual(name).teachers[0], other.teachers[0])


@every_strategy
def test_the_order_of_replies_is_irrelevant(name: str, usual: Callable[[str], Run], tmp_path: Path) -> None:
    def shuffled(number: int, kind: str, replies: list[Message]) -> list[Message]:
        return random.Random(f"{number} {kind}").sample(replies, len(replies))

    run, other = usual(name), begin(scenario(name), tmp_path, shuffled).play(ROUNDS)
    for a, b in zip(run.teachers, other.teachers, strict=True):
        assert all_same(a, b)
    assert all_same(states(run), states(other))
    for stage, shuffled_stage in zip(run.stages, other.stages, strict=True):
        assert stage.outcomes == shuffled_stage.outcomes


@every_strategy
def test_a_missing_client_is_tolerated(name: str, usual: Callable[[str], Run], tmp_path: Path) -> None:
    run = begin(scenario(name), tmp_path, lose((2, "train", "2"))).play(ROUNDS)
    statuses = {client: outcome.status for client, outcome in run.at(2, "train").outcomes.items()}
    assert statuses == {"0": "accepted", "1": "accepted", "2": "late", "3": "accepted"}
    assert run.at(2, "train").outcomes["2"].up == 0
    assert run.fused[1].clients == ("0", "1", "3")
    assert {o.status for o in run.at(3, "train").outcomes.values()} == {"accepted"}
    if name == "local":
        return
    assert run.strategy.teachers.made_in(3)
    # The others are taught between the rounds, who was late is not.
    assert {c: o.taught for c, o in run.at(2, "evaluate").outcomes.items()} == {"0": 2, "1": 2, "3": 2}
    assert all_same(usual(name).teachers[0], run.teachers[0])
    changed = {c for c in EVERYONE if not same(run.teachers[0][c], run.teachers[1][c])}
    personal = bool(run.strategy.teachers.personal)
    assert changed == ({"0", "1", "3"} if personal else set(EVERYONE))
    # A common teacher reaches it with the next training; it has no newer one of its own.
    assert run.at(3, "train").outcomes["2"].taught == (None if personal else 2)


@every_teacher
def test_a_teacher_whose_delivery_is_unknown_is_sent_again(name: str, tmp_path: Path) -> None:
    run = begin(scenario(name), tmp_path, lose((1, "evaluate", "2"))).play(2)
    assert run.at(1, "evaluate").outcomes["2"].status == "late"
    taught = {client: outcome.taught for client, outcome in run.at(2, "train").outcomes.items()}
    assert taught == {"0": None, "1": None, "2": 1, "3": None}
    # It had been digested, so it is not digested again: nothing is different from a run without the loss.
    assert all_same(run.teachers[1], begin(scenario(name), tmp_path / "other").play(2).teachers[1])


@every_strategy
@pytest.mark.parametrize("rows", [None, 20])
def test_bytes_are_those_of_the_encoded_arrays(
    name: str, rows: int | None, usual: Callable[[str], Run], tmp_path: Path
) -> None:
    some = scenario(name, transfer={"rows": rows})
    run = usual(name) if rows is None else begin(some, tmp_path).play(2)
    behaviour, told = run.strategy.behaviour, run.strategy.client_settings
    asked = 20 if rows and name in WITH_ROWS else 0
    total = 0
    for stage in run.stages:
        for message in stage.sent:
            client = run.client(message)
            outcome, dims = stage.outcomes[client], run.world.dims(client).about(asked)
            assert payload(message.content) == outcome.down
            taught = outcome.taught is not None
            expected = behaviour.teacher(dims, told, with_rows=asked > 0) if taught else {}
            ids = {"ids": row_ids(dims)} if asked and stage.kind == "train" else {}
            assert fits(outcome.down, expected, ids)
            total += outcome.down
        for reply in stage.replies:
            client = run.strategy.course.asking._nodes[reply.metadata.src_node_id]
            outcome, dims = stage.outcomes[client], run.world.dims(client).about(asked)
            assert payload(reply.content) == outcome.up
            assert fits(outcome.up, behaviour.contribution(dims, told) if stage.kind == "train" else {})
            total += outcome.up
    assert (total == 0) == (name == "local")


@every_strategy
def test_a_resumed_run_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    """Also where the first round's teacher is still to be delivered, or stays the newest for a while."""
    meddle = lose((1, "evaluate", "1"), (2, "train", "2"))
    run = begin(scenario(name), tmp_path / "uninterrupted", meddle).play(ROUNDS)
    before = begin(scenario(name), tmp_path, meddle).play(1)
    before.store.flush(0)
    before.store.written()
    write_tensors(tmp_path / "strategy.safetensors", *before.strategy.course.state())

    after = begin(scenario(name), tmp_path, meddle)
    after.strategy.course.load_state(*read_tensors(tmp_path / "strategy.safetensors"))
    after.done = 1
    tensors, note = before.strategy.course.state()
    tensors_after, note_after = after.strategy.course.state()
    assert same(tensors, tensors_after)
    assert note == note_after
    after.play(ROUNDS - 1)
    for expected, found in zip(run.teachers[1:], after.teachers, strict=True):
        assert all_same(expected, found)
    assert all_same(states(run), states(after))
    for stage in after.stages:
        assert stage.outcomes == run.at(stage.round, stage.kind).outcomes


@every_strategy
def test_a_permutation_of_clients_permutes_the_teachers(name: str, usual: Callable[[str], Run]) -> None:
    run, order = usual(name), [2, 0, 3, 1]
    straight = run.fused[0]
    turned = Contributions(
        tuple(straight.clients[i] for i in order),
        {array: tensor[order] for array, tensor in straight.arrays.items()},
        straight.rows,
    )
    # Fresh ones, since a strategy may have a state (central trains in each call).
    a, b = strategy_of(run.world).fuse(straight), strategy_of(run.world).fuse(turned)
    if a is None or b is None:
        assert (a, b, name) == (None, None, "local")
        return
    assert a.personal == b.personal
    assert set(a.by_client) == set(b.by_client)
    for client, arrays in a.by_client.items():
        assert same(arrays, b.by_client[client])
    assert list(a.arrays) == list(b.arrays)
    for array, tensor in a.arrays.items():
        expected = tensor[order] if a.personal else tensor
        assert torch.allclose(b.arrays[array].double(), expected.double(), rtol=1e-5, atol=1e-6)


@every_strategy
def test_without_a_quorum_the_old_teachers_stay(name: str, tmp_path: Path) -> None:
    described = scenario(name, participation={"quorum": 3})
    run = begin(described, tmp_path, lose((2, "train", "1"), (2, "train", "2"))).play(ROUNDS)
    assert run.at(2, "train").aggregated == (None, None)
    assert {c: o.status for c, o in run.at(2, "train").outcomes.items()} == {
        "0": "accepted",
        "1": "late",
        "2": "late",
        "3": "accepted",
    }
    assert all_same(run.teachers[0], run.teachers[1])
    assert not run.at(2, "evaluate").sent  # nobody has anything to learn
    assert len(run.fused) == 2
    if name != "local":
        assert run.at(3, "train").aggregated[0] is not None
        assert not all_same(run.teachers[1], run.teachers[2])


@every_strategy
def test_a_returning_client_gets_the_newest_teacher(name: str, tmp_path: Path) -> None:
    rounds = 6
    run = begin(scenario(name, participation={"fraction": 0.5}, rounds=rounds), tmp_path).play(rounds)
    world, told = run.world, run.strategy.client_settings
    first = strategy_of(world).initial()
    made: dict[str, int] = {} if first is None else dict.fromkeys(EVERYONE, 0)
    delivered: dict[str, int] = {}
    teachers: Teachers = {} if first is None else {c: dict(first.arrays) for c in EVERYONE}
    returned = 0
    for number in range(1, rounds + 1):
        for kind in ("train", "evaluate"):
            stage = run.at(number, kind)
            for message in stage.sent:
                client = run.client(message)
                request = Request.unpack(
                    message.content,
                    world.transfer_hash,
                    world.dims(client),
                    lambda dims, with_rows: world.behaviour.teacher(dims, told, with_rows=with_rows),
                )
                assert replace(request.binding, nonce="") == Binding("run", number, world.transfer_hash)
                # Who has none of its own starts from the mean of the newest ones.
                newcomer = client not in made and client in teachers
                newest = max(made.values(), default=-1) if newcomer else made.get(client, -1)
                lacks = newest > delivered.get(client, -1)
                # Between the rounds only those are taught who took part in this one.
                if kind == "evaluate":
                    lacks = lacks and client in run.at(number, "train").outcomes
                    assert lacks or client in run.strategy.course.wants_metrics
                assert (request.teacher is not None) == lacks
                assert stage.outcomes[client].taught == (newest if lacks else None)
                if request.teacher is not None:
                    assert request.teacher_round == newest
                    assert sorted(request.teacher) == sorted(teachers[client])
                    for array, values in request.teacher.items():
                        assert np.array_equal(values, teachers[client][array].numpy())
                    returned += kind == "train" and number > 1
                    delivered[client] = newest
            if kind == "train" and name != "local":
                assert len(stage.outcomes) == 2
                teachers = run.teachers[number - 1]
                fresh = stage.outcomes if run.strategy.teachers.personal else EVERYONE
                made |= dict.fromkeys(fresh, number)
    starts = run.strategy.teachers.newcomer() is not None
    assert bool(returned) == (name != "local" and (not run.strategy.teachers.personal or starts))
    assert {frozenset(run.at(number, "train").outcomes) for number in range(1, rounds + 1)} != {
        frozenset(run.at(1, "train").outcomes)
    }


@every_strategy
def test_an_unknown_setting_is_refused(name: str) -> None:
    known = list(registry.find("strategies", name).Config.model_fields)
    key = f"{known[0]}z" if known else "speed"
    with pytest.raises(InputError) as raised:
        checked_world(scenario(name, settings={key: 1}))
    remedy = f"did you mean '{known[0]}'" if known else f"strategy '{name}' has no settings"
    assert f"unknown key 'strategy.{key}'; {remedy}" in str(raised.value)


ASKING = [(name, policy) for name in WITH_ROWS for policy in ("random", "disagreement", "entropy", "margin")]
# The others look at the same numbers; knfu's teachers are personal.
ASKING += [
    ("knfu", policy) for policy in ("sure", "gap", "cover", "strata", "contested", "changing", "census")
]


@pytest.mark.parametrize(("name", "policy"), ASKING)
def test_rows_are_asked_for_by_policy(name: str, policy: str, tmp_path: Path) -> None:
    described = scenario(name, transfer={"rows": 20, "policy": policy})
    run = begin(described, tmp_path).play(ROUNDS)
    asked = []
    for contributions, teachers in zip(run.fused, run.teachers, strict=True):
        rows = contributions.rows
        assert rows is not None
        assert rows.dtype == torch.int32
        assert len(rows) == 20
        assert any(array.shape[:2] == (4, 20) for array in contributions.arrays.values())
        assert (rows.diff() > 0).all()
        assert rows[0] >= 0
        assert rows[-1] < SIZE
        for teacher in teachers.values():
            assert torch.equal(teacher["rows"], rows)
        asked.append(rows.tolist())
    assert asked[0] != asked[1]
    again = begin(described, tmp_path / "again").play(ROUNDS)
    assert [c.rows.tolist() for c in again.fused if c.rows is not None] == asked
    for a, b in zip(run.teachers, again.teachers, strict=True):
        assert all_same(a, b)


@pytest.mark.parametrize("name", WITH_ROWS)
@pytest.mark.parametrize("policy", ["entropy", "margin"])
def test_the_least_certain_rows_are_asked_for(name: str, policy: str) -> None:
    """A teacher that is the less sure the higher the row's number."""
    strategy = strategy_of(world_of(scenario(name, transfer={"rows": 4, "policy": policy})))
    choice = strategy.course._row_choice
    assert choice is not None
    sure = torch.linspace(0.99, 0.3, SIZE)
    values = torch.cat([sure[:, None], ((1 - sure) / 9)[:, None].expand(-1, 9)], 1)
    if strategy.client_settings.get("form") == "logits":
        values = values.log()

    def asked(*teachers: Tensor, rows: Tensor | None = None, forget: bool = True) -> list[int]:
        if forget:
            choice.worth = None
        strategy.course.rows = None if rows is None else rows.numpy()
        told = Fused(by_client={str(i): {"values": t} for i, t in enumerate(teachers)})
        strategy.course._learn_about_rows(None, told)
        chosen = choice.choose(2)
        assert chosen is not None
        return list(chosen)

    assert asked(values) == [46, 47, 48, 49]
    # Of rows 2 to 49 alone it has spoken: the two that it has not spoken about come first.
    rows = torch.arange(2, SIZE, dtype=torch.int32)
    assert asked(values[2:], rows=rows) == [0, 1, 48, 49]
    # What it said of the other rows before is remembered: it is sure of 48 and 49 now.
    asked(values)
    rows = torch.tensor([48, 49], dtype=torch.int32)
    assert asked(values[:2], rows=rows, forget=False) == [44, 45, 46, 47]
    # Personal teachers: the mean counts. The second client is as unsure of rows 0 to 2 as of row 49, but
    # the first is so sure of them that rows 46 to 49, which both doubt, come first.
    other = values.clone()
    other[:3] = values[-1]
    assert asked(values, other) == [46, 47, 48, 49]
    # If the first has no idea of row 0 either, it is among them.
    one = values.clone()
    one[0] = values[-1]
    assert asked(one, other) == [0, 47, 48, 49]


@pytest.mark.parametrize("name", ["knfu", "fd"])
def test_replies_that_are_not_what_was_asked_for_change_nothing(name: str, tmp_path: Path) -> None:
    """A repeated reply is ignored, one of another run is rejected; neither costs the others anything."""
    straight = begin(scenario(name), tmp_path).play(1)

    def twice(number: int, kind: str, replies: list[Message]) -> list[Message]:
        return [*replies, *replies]

    assert all_same(straight.teachers[0], begin(scenario(name), tmp_path / "b", twice).play(1).teachers[0])

    def foreign(number: int, kind: str, replies: list[Message]) -> list[Message]:
        for reply in replies:
            if reply.metadata.src_node_id == 101:
                reply.content.config_records["fedkt"]["run"] = "another"
        return replies

    run = begin(scenario(name), tmp_path / "c", foreign).play(1)
    outcome = run.at(1, "train").outcomes["1"]
    assert (outcome.status, outcome.reason) == ("rejected", "run")
    assert run.fused[0].clients == ("0", "2", "3")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A federation whose transfer set is another data set than the private one: noise of its form."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign_rows.py").write_text(
        "import numpy as np\n"
        "def noise():\n"
        "    return np.random.default_rng(0).random((80, 8, 8), dtype=np.float32), np.zeros(80, np.int64)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield checked_world(scenario("knfu", transfer={"from": "foreign_rows:noise"})).federation


@pytest.mark.parametrize("name", WITH_ROWS)
def test_the_transfer_set_may_be_of_another_data_set(name: str, foreign: Any, tmp_path: Path) -> None:
    described = scenario(name, transfer={"from": "foreign_rows:noise"})
    world = World(described, foreign)
    assert foreign.transfer.y.tolist() == [-1] * SIZE
    run = begin(described, tmp_path, world=world).play(1)
    assert {outcome.status for outcome in run.at(1, "evaluate").outcomes.values()} == {"accepted"}
    assert run.strategy.teachers.made_in(1)


@every_teacher
def test_means_over_clients_are_taken_by_the_hook(name: str, usual: Callable[[str], Run]) -> None:
    """So that robust fusion can replace them, or is refused where the method takes none."""
    run = usual(name)
    strategy, called = strategy_of(run.world), []

    def spied(values: Tensor, weights: Tensor | None = None) -> Tensor:
        called.append(len(values))
        return Strategy.centre(strategy, values, weights)

    vars(strategy)["centre"] = spied
    strategy.robust = Robust(centre="trimmed-mean", hostile=0.0)
    strategy.fuse(run.fused[0])
    assert bool(called) == strategy.takes_mean
