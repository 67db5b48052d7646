"""Stacked training: the same steps as one by one, to rounding; cohorts, and what is not stacked."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt import models
from fedkt.client import Fit, Steps, classification
from fedkt.client.training import lay_out, one_thread, tensors_of
from fedkt.data.sets.dataset import InputSpec
from fedkt.distill.losses import kl
from fedkt.engine.clients.cohort_training import fit_stacked, predict_stacked
from fedkt.engine.clients.cohorts import Cohorts, Plan
from fedkt.engine.clients.jobs import FitJob, PredictJob, one_by_one
from fedkt.engine.clients.stack import Stack, Unstackable, loss_key
from fedkt.engine.world.placement import evened
from fedkt.models.direct import Direct, direct
from fedkt.models.net import Net
from fedkt.privacy.dpsgd import Dpsgd

IMAGE = InputSpec("image", (1, 8, 8))
SIZES = (30, 7, 16, 41, 16)
"""Rows of the clients: less than a batch, whole batches, a short last one, two alike."""


def jobs(
    model: Any, steps: Steps, sizes: Sequence[int] = SIZES, loss: Any = classification, more: Any = None
) -> list[FitJob]:
    net = models.build(model, IMAGE, 10, 0)
    made = []
    for k, size in enumerate(sizes):
        draw = torch.Generator().manual_seed(k)
        rows = {
            "x": torch.randn(size, 1, 8, 8, generator=draw),
            "y": torch.randint(10, (size,), generator=draw),
            "target": torch.randn(size, 10, generator=draw),
        }
        start = {n: t + 0.01 * k for n, t in net.state_dict().items()}
        phase = Fit("train", rows, loss, steps, more or {}, private=True)
        made.append(FitJob("train", net, start, phase, {}, 3, str(k), 1))
    return made


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert list(one) == list(other)
    return max((float((one[n] - other[n]).abs().max()) for n in one), default=0.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    "model",
    [
        ("mlp", {"width": 16, "dropout": 0.3}),
        ("cnn", {"width": 16, "dropout": 0.2}),
        ("resnet8", {"width": 16}),
    ],
    ids=lambda model: model[0],
)
def test_stacked_clients_take_the_steps_that_each_takes_alone(model: Any, optimizer: str) -> None:
    steps = Steps(2, 16, optimizer, 0.01, momentum=0.9 if optimizer == "sgd" else 0.0, weight_decay=0.01)
    first = jobs(model, steps)
    with one_thread():
        alone, together = one_by_one(first), fit_stacked(Stack(first[0].net), first)
        # A second round, to which optimisers bring their states, and some clients come without any.
        again = [
            replace(job, tensors=tensors, state={} if job.client == "2" else state, round=2)
            for job, (tensors, state, _) in zip(first, alone, strict=True)
        ]
        alone_again, together_again = one_by_one(again), fit_stacked(Stack(first[0].net), again)
    for a, b in zip(alone + alone_again, together + together_again, strict=True):
        assert distance(a[0], b[0]) < 1e-5
        assert distance(a[1], b[1]) < 1e-5
        assert torch.allclose(a.losses, b.losses, atol=1e-5) and a.losses.shape == (1,)
    # Adam counts: epochs * ceil(rows/16), 4 2 2 6 2, and client 2 began anew.
    counts = [
        int(next((v for k, v in s.items() if k.endswith("/step")), torch.tensor(0)))
        for _, s, _ in together_again
    ]
    assert counts == ([0] * 5 if optimizer == "sgd" else [8, 4, 2, 12, 4])


def weighed(net: Any, batch: Any, constants: Any, *, weight: float) -> Tensor:
    z, logits = net(batch["x"])
    pull = sum(((p - constants[n]) ** 2).sum() for n, p in net.params.items() if n in constants)
    return weight * kl(logits, batch["target"], 2.0) + z.square().mean(-1) + net.head(z + 1).mean(-1) + pull


def pulled(net: Any, batch: Any, constants: Any, *, weight: float) -> Tensor:
    z, logits = net(batch["x"])
    return weight * kl(logits, batch["target"], 2.0) + z.square().mean(-1)


def test_losses_may_use_features_head_parameters_and_constants() -> None:
    anchor = {"head.weight": torch.ones(10, 16)}
    made = jobs(
        ("mlp", {"width": 16}), Steps(1, 8, "sgd", 0.05), loss=partial(weighed, weight=0.5), more=anchor
    )
    with one_thread():
        for a, b in zip(one_by_one(made), fit_stacked(Stack(made[0].net), made), strict=True):
            assert distance(a[0], b[0]) < 1e-5


@pytest.mark.parametrize(
    ("loss", "optimizer", "called"),
    [
        (classification, "adam", True),
        (partial(pulled, weight=0.5), "sgd", True),
        (partial(weighed, weight=0.5), "sgd", False),
    ],
)
def test_a_perceptron_is_called_without_vmap_and_has_the_same_bits(
    loss: Any, optimizer: Any, called: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jobs(("mlp", {"width": 16}), Steps(2, 8, optimizer, 0.05), loss=loss)
    calls: list[Any] = []
    call = Direct.__call__

    def noted(*given: Any) -> Any:
        calls.append(given)
        return call(*given)

    monkeypatch.setattr(Direct, "__call__", noted)
    with one_thread():
        stack = Stack(made[0].net)
        called_so = fit_stacked(stack, made)
        assert len(calls) == (12 if called else 1)  # steps of the longest; one is enough to find it out
        assert bool(stack.ask_more) is not called
        monkeypatch.setattr("fedkt.engine.clients.gradients.direct", lambda net: None)
        under_vmap = fit_stacked(Stack(made[0].net), made)
    for a, b in zip(called_so, under_vmap, strict=True):
        assert distance(a[0], b[0]) == distance(a[1], b[1]) == 0.0
        assert torch.equal(a.losses, b.losses)


def test_only_nets_of_linear_layers_are_called_so() -> None:
    def fits(*layers: nn.Module) -> bool:
        return direct(Net(nn.Sequential(*layers), nn.Linear(4, 3), 4)) is not None

    assert fits(nn.Flatten(), nn.Linear(8, 4, bias=False), nn.Tanh())
    assert not fits(nn.Flatten(), nn.Linear(8, 4), nn.Dropout())
    assert not fits(nn.Flatten(2), nn.Linear(8, 4))
    assert not fits(nn.Linear(8, 4), nn.LayerNorm(4))
    closed = Net(nn.Sequential(nn.Linear(8, 4)), nn.Linear(4, 3), 4)
    closed.close(torch.zeros(3))
    assert direct(closed) is None


def test_only_what_a_phase_names_is_trained() -> None:
    made = jobs(("mlp", {"width": 16}), Steps(1, 8, "adam", 0.05))
    made = [replace(job, phase=replace(job.phase, only=frozenset({"head.bias"}))) for job in made]
    for a, b, job in zip(one_by_one(made), fit_stacked(Stack(made[0].net), made), made, strict=True):
        assert distance(a[0], b[0]) < 1e-5 and distance(a[1], b[1]) < 1e-5
        assert torch.equal(b[0]["head.weight"], job.tensors["head.weight"])


def fixed(client: int) -> Any:
    """Generators that give the same numbers twice: for comparison only."""
    return lambda purpose: torch.Generator().manual_seed(10 * client + len(purpose))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("noise", [1e-3, 1.5])
@pytest.mark.parametrize("model", [("mlp", {"width": 16, "dropout": 0.3}), ("cnn", {"width": 8})])
def test_stacked_dp_sgd_takes_the_gradients_of_opacus(model: Any, noise: float, steps: int) -> None:
    # Plain gradient descent with rate 1 moves each tensor by its gradient: sum of clipped rows and noise.
    made = jobs(model, Steps(1, 8, "sgd", 1.0, batches=steps))
    made = [replace(job, private=Dpsgd(noise, 0.5 + k, fixed(k))) for k, job in enumerate(made)]
    with one_thread():
        alone, together = one_by_one(made), fit_stacked(Stack(made[0].net), made)
    for job, a, b in zip(made, alone, together, strict=True):
        assert distance(a[0], b[0]) < 1e-4
        # A Poisson batch may be empty, and then there is no loss either.
        assert a.losses.shape == b.losses.shape and torch.allclose(a.losses, b.losses, atol=1e-4)
        # Clipping binds: without noise no sum of 8 rows over 8 is longer than the clip.
        moved = torch.cat([(b[0][n] - job.tensors[n]).flatten() for n in b[0]])
        assert job.private is not None and moved.norm() > 0
        if noise < 0.1 and steps == 1:
            assert moved.norm() < 3 * job.private.max_grad_norm


def test_private_and_plain_jobs_are_never_trained_together() -> None:
    made = jobs(("mlp", {"width": 16}), Steps(1, 8, "sgd", 1.0))
    mixed = [replace(made[0], private=Dpsgd(1.0, 1.0)), *made[1:]]
    with pytest.raises(ValueError, match="do not train privately"):
        fit_stacked(Stack(made[0].net), mixed)
    from fedkt.engine.clients.cohorts import _kind

    assert _kind(mixed[0]) != _kind(mixed[1])


def test_a_client_without_rows_keeps_everything() -> None:
    made = jobs(("mlp", {"width": 16}), Steps(1, 8, "adam", 0.05), sizes=(9, 0))
    tensors, state, losses = fit_stacked(Stack(made[0].net), made)[1]
    assert distance(tensors, made[1].tensors) == 0 and state == {} and len(losses) == 0


@pytest.mark.parametrize("shared", [True, False])
def test_predictions_are_those_of_each_client(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fedkt.engine.clients.cohort_training.PREDICT_ROWS", 40
    )  # so that more than one pass is needed
    made = jobs(("cnn", {"width": 16, "dropout": 0.5}), Steps(1, 8, "sgd", 0.05))
    x = torch.randn(33, 1, 8, 8)
    asked = [
        PredictJob("extract", job.net, job.tensors, x if shared else job.phase.rows["x"]) for job in made
    ]
    for a, b in zip(one_by_one(asked), predict_stacked(Stack(made[0].net), asked), strict=True):
        assert [t.shape for t in a] == [t.shape for t in b]
        assert max(float((s - t).abs().max()) for s, t in zip(a, b, strict=True)) < 1e-5


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
        self.head = nn.Linear(64, 10)


def test_a_model_that_mixes_rows_or_shares_a_tensor_is_not_stacked() -> None:
    module = Normalised()
    with pytest.raises(Unstackable, match="normalises over the rows"):
        Stack(Net(module.features, module.head, 64))
    layer = nn.Linear(64, 64)
    with pytest.raises(Unstackable, match="belongs to two layers"):
        Stack(Net(nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer), nn.Linear(64, 10), 64))


def test_losses_are_alike_by_function_and_settings() -> None:
    assert loss_key(partial(weighed, weight=0.5)) == loss_key(partial(weighed, weight=0.5))
    assert loss_key(partial(weighed, weight=0.5)) != loss_key(partial(weighed, weight=0.6))
    assert loss_key(partial(partial(weighed, weight=0.5))) != loss_key(weighed)


SCENARIO = {
    "name": "cohorts",
    "data": {
        "normalise": "none",
        "partition": {"kind": "dirichlet", "alpha": 0.5, "clients": 8},
        "transfer": {"from": "train", "size": 60},
    },
    "clients": {
        "models": [{"name": "mlp", "width": 16}, {"name": "cnn", "width": 16, "dropout": 0.2}],
        "local": {"epochs": 1},
        "distill": {"epochs": 1},
    },
    "strategy": {"name": "knfu"},
    "rounds": 2,
    "engine": {"kind": "inline", "cohort": 4},
}


def run(out: Path, *overrides: str, resume: bool = False) -> Any:
    return fedkt.simulate(SCENARIO, overrides, out=out, resume=resume)


def final_tensors(folder: Path) -> dict[str, Tensor]:
    from fedkt.files import read_tensors

    found: dict[str, Tensor] = {}
    for client in sorted((folder / "checkpoint" / "clients").iterdir()):
        tensors, _ = read_tensors(max(client.glob("*.safetensors")))
        found |= {f"{client.name}/{name}": tensor for name, tensor in tensors.items()}
    return found


@pytest.mark.parametrize("strategy", ["knfu", "fedproto", "fd", "fedmd"])
def test_a_stacked_run_agrees_with_one_by_one(tmp_path: Path, strategy: str) -> None:
    change = f"strategy={{name: {strategy}}}"
    alone = run(tmp_path / "alone", change, "engine.cohort=off")
    together = run(tmp_path / "together", change)
    assert distance(final_tensors(tmp_path / "alone"), final_tensors(tmp_path / "together")) < 1e-4
    for name in ("global_mean", "personal_mean"):
        difference = alone.summary["accuracy"][name] - together.summary["accuracy"][name]
        assert abs(difference) <= 0.01


def test_cohorts_are_cut_by_architecture_and_size(tmp_path: Path) -> None:
    from fedkt.engine.checks.checked import checked_world
    from fedkt.scenario import from_dict

    world = checked_world(from_dict(SCENARIO))
    sizes = {world.architecture("0"): 3, world.architecture("1"): 8}
    cohorts = Cohorts(world, Plan([["0", "2", "4", "6"], ["1", "3", "5", "7"]], sizes))
    rows = {client: len(shard.rows) for client, shard in world.shards.items()}
    cut = cohorts.cut(list("01234567"))
    assert [len(cohort) for cohort in cut] == [2, 2, 4]
    assert sorted(cut[0] + cut[1], key=int) == ["0", "2", "4", "6"]
    assert min(rows[c] for c in cut[0]) >= max(rows[c] for c in cut[1])


def test_one_client_of_a_cohort_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedkt.clients.logits import LogitsClient

    train = LogitsClient.train

    def broken(self: Any, teacher: Any) -> Any:
        phase = train(self, teacher)
        if self.holding.client == "3":
            phase = replace(phase, rows={**phase.rows, "y": phase.rows["y"] + 100})  # no such class
        return phase

    monkeypatch.setattr(LogitsClient, "train", broken)
    result = run(tmp_path / "run")
    rounds = result.summary["rounds"]
    assert result.summary["replies"]["failed"] == rounds  # client 3's, the others' are accepted
    assert result.summary["replies"]["accepted"] == rounds * (result.summary["clients"] - 1)
    assert result.summary["failures"] == {"3": "client 3, round 1, stage train: IndexError"}


def test_when_memory_runs_out_the_cohort_is_halved_and_the_checkpoint_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fedkt.engine.clients import cohorts
    from fedkt.engine.loop import checkpoint

    real = fit_stacked

    def scarce(stack: Any, jobs: Any) -> Any:
        if len(jobs) > 2:
            raise torch.OutOfMemoryError("too many")
        return real(stack, jobs)

    monkeypatch.setattr(cohorts, "fit_stacked", scarce)
    run(tmp_path / "scarce", "rounds=1")
    assert "cohorts of ('mlp', {'width': 16}) have 2 clients from now on" in caplog.text
    saved = checkpoint.read(tmp_path / "scarce" / "checkpoint")
    assert set(saved.engine["sizes"].values()) == {2}


def test_a_cohort_is_cut_to_the_memory_that_is_free_before_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fedkt.engine.loop import checkpoint
    from fedkt.engine.world import memory

    # For two architectures the plan, then training and evaluation in each of two rounds.
    asked = iter([10**12] * 2 + [10**6] * 2 + [10**4] * 2)
    monkeypatch.setattr(memory, "free", lambda device: next(asked))
    monkeypatch.setattr(memory, "training", lambda *_, **__: 3 * 10**5)
    run(tmp_path / "short", "rounds=2")
    assert "have 3 clients from now on" in caplog.text and "have 1 clients from now on" in caplog.text
    assert set(checkpoint.read(tmp_path / "short" / "checkpoint").engine["sizes"].values()) == {1}


def test_a_run_that_dies_resumes_to_the_same_bits_with_the_cohorts_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedkt.engine.clients import trial
    from fedkt.engine.loop import checkpoint
    from fedkt.errors import InputError

    # A trial that would decide otherwise each time.
    sizes = iter([4, 2, 1, 8, 8, 8])
    monkeypatch.setattr(trial, "_timed", lambda *_: (next(sizes), "by chance"))
    monkeypatch.setattr(trial, "_known", {})
    auto = ("engine.cohort=auto", "rounds=3")
    run(tmp_path / "whole", *auto)
    write = checkpoint.write

    def dying(folder: Path, round_: int, content: bytes) -> None:
        if round_ == 2:
            raise KeyboardInterrupt
        write(folder, round_, content)

    monkeypatch.setattr(trial, "_known", {})
    again = iter([4, 2])
    monkeypatch.setattr(trial, "_timed", lambda *_: (next(again), "by chance"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", *auto)
    saved = checkpoint.read(tmp_path / "cut" / "checkpoint")
    assert list(saved.engine["sizes"].values()) == [4, 2]
    assert saved.engine["notes"] == ["mlp: cohorts of 4 (by chance)", "cnn: cohorts of 2 (by chance)"]
    with pytest.raises(InputError, match=r'engine.cohort was "auto" and is "off"'):
        run(tmp_path / "cut", "engine.cohort=off", "rounds=3", resume=True)
    with pytest.raises(InputError, match="was trained in cohorts"):
        run(tmp_path / "cut", *auto, "engine.kind=flower", resume=True)
    run(tmp_path / "cut", *auto, resume=True)
    whole, cut = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "cut")
    assert list(whole) == list(cut) and all(torch.equal(whole[n], cut[n]) for n in whole)


@pytest.mark.parametrize(
    ("seconds", "size", "why"),
    [
        # Four clients one by one, then eight together: 1 s each against 0.4 s, 0.9 s, 2 s.
        ([4.0, 3.2], 8, "2.5 times as fast as one by one in a trial"),
        ([4.0, 7.2], 1, "cohorts gain less than 25% in a trial"),
        ([4.0, 16.0], 1, "cohorts gain less than 25% in a trial"),
    ],
)
def test_auto_stacks_where_a_trial_gains(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], size: int, why: str
) -> None:
    from fedkt import scenario
    from fedkt.engine.checks.checked import checked_world
    from fedkt.engine.clients import trial

    taken = iter(seconds)
    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(trial, "_time", lambda run, device: run() and next(taken))
    world = checked_world(scenario.load(SCENARIO, ["engine.cohort=auto", "clients.models=[mlp]"]))
    plan = trial.plan(world, trial.units(world, 1), 1.0)
    assert plan.sizes == ({world.architecture("0"): 8} if size == 8 else {})
    assert plan.notes == [f"mlp: {'cohorts of 8' if size == 8 else 'one by one'} ({why})"]
    alone = trial.plan(world, trial.units(world, 4), 1.0)
    assert alone.sizes == {} and "one by one (2 of its clients" in alone.notes[0]


def test_states_past_the_limit_go_to_disk_the_longest_unused_first(tmp_path: Path) -> None:
    from fedkt.client.state import ClientState, DiskStore, MemoryStore

    store = MemoryStore(DiskStore(tmp_path), limit=2 * 40)
    for client, value in (("a", 1.0), ("b", 2.0)):
        store.save(client, 2, ClientState({"w": torch.full((10,), value)}), 0)
    assert store.held == 80 and not list(tmp_path.iterdir())
    assert store.load("a", below=3) is not None
    store.save("c", 2, ClientState({"w": torch.full((10,), 3.0)}), 0)
    # a was used after b.
    assert store.held == 80 and [p.name for p in tmp_path.iterdir()] == ["b"]
    store.save("a", 3, ClientState({"w": torch.full((10,), 4.0)}), 0)
    assert store.held == 80
    for client, value in (("a", 4.0), ("b", 2.0), ("c", 3.0)):
        state = store.load(client, below=4)
        assert state is not None and state.tensors["w"].tolist() == [value] * 10
    store.flush(0)
    store.written()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_state_moves_from_one_process_to_another_and_is_written_there(tmp_path: Path) -> None:
    from fedkt.client.state import ClientState, DiskStore, MemoryStore

    one, other = MemoryStore(DiskStore(tmp_path)), MemoryStore(DiskStore(tmp_path))
    one.save("0", 2, ClientState({"w": torch.ones(3)}), kept=0)
    assert one.give("1") is None
    held = one.give("0")
    assert held is not None and held.version == 2 and not held.saved and one.held == 0
    other.take("0", held)
    assert one.load("0", below=3) is None and other.held == 12
    other.flush(0)
    other.written()
    found = one.load("0", below=3)  # from the disk that both share
    assert found is not None and torch.equal(found.tensors["w"], torch.ones(3))
    again = other.give("0")
    assert again is not None and again.saved  # nothing is left to be written
    one.take("0", again)
    one.flush(0)
    one.written()
    assert (tmp_path / "0" / "00000002.safetensors").is_file()


def test_moves_even_out_what_parts_have_to_do() -> None:
    # 12 against 8 of equal work: two moves make it 10 and 10.
    assert evened([dict.fromkeys(range(12), 1.0), dict.fromkeys(range(12, 20), 1.0)]) == [
        (0, 0, 1),
        (1, 0, 1),
    ]
    # 9 against 2: half the difference is 3.5; of 5, 3 and 1, moving 3 leaves 6 and 5.
    assert evened([{0: 5.0, 1: 3.0, 2: 1.0}, {3: 2.0}]) == [(1, 0, 1)]
    assert evened([{0: 5.0}, {}]) == []  # one client cannot be divided
    assert evened([{0: 1.0}, {1: 1.01}]) == [] and evened([{}, {}]) == []


def test_a_pooling_network_computes_the_same_in_the_layout_that_pools_fast() -> None:
    built = models.build(("cnn", {"width": 8}), InputSpec("image", (3, 8, 8)), 4, 0)
    laid = copy.deepcopy(built)
    lay_out(laid)
    first = next(p for p in laid.parameters() if p.ndim == 4)
    assert first.is_contiguous(memory_format=torch.channels_last) and not first.is_contiguous()
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for one, other in zip(built(x), laid(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert all(t.is_contiguous() for t in tensors_of(laid).values())
    assert distance(tensors_of(laid), built.state_dict()) == 0


def test_a_run_whose_states_do_not_fit_into_memory_gives_the_same_bits(tmp_path: Path) -> None:
    # One client's state: (64*16 + 16 + 16*10 + 10) numbers, three times (Adam), and as much for distillation.
    limited = run(
        tmp_path / "limited", "engine.memory_limit=60KiB", "clients.models=[{name: mlp, width: 16}]"
    )
    free = run(tmp_path / "free2", "clients.models=[{name: mlp, width: 16}]")
    assert limited.summary["accuracy"] == free.summary["accuracy"]
    one, other = final_tensors(tmp_path / "limited"), final_tensors(tmp_path / "free2")
    assert list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)
