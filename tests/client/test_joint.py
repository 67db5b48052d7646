"""Private and transfer rows in the same steps: batches, losses, and when a teacher is learned from."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt import models
from fedkt.client import Fit, Steps, classification, distillation
from fedkt.client.joint import at_once, joined, jointly, untaught
from fedkt.client.state import DiskStore
from fedkt.client.training import Losses, ModuleForward, batches, fit, one_thread, unending
from fedkt.data.sets.dataset import InputSpec
from fedkt.distill.losses import ce, kl
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.cohort_training import fit_stacked
from fedkt.engine.clients.jobs import FitJob, one_by_one
from fedkt.engine.clients.stack import Stack
from fedkt.errors import InputError
from fedkt.scenario import from_dict
from fedkt.scenario.about_data import Transfer

DISTIL = partial(distillation, loss=ce, temperature=1.0)


class Says(nn.Module):
    """Its logits are its inputs plus a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + self.shift


def phases(own: int, other: int, local: Steps, distill: Steps) -> tuple[Fit, Fit]:
    """Private rows that say (1/2, 1/2), transfer rows that say (1/4, 3/4) and are taught (1/2, 1/2)."""
    private = {"x": torch.zeros(own, 2), "y": torch.zeros(own, dtype=torch.int64)}
    public = {"x": torch.tensor([[0.25, 0.75]]).log().repeat(other, 1), "target": torch.zeros(other, 2)}
    return (
        Fit("train", private, classification, local, private=True),
        Fit("digest", public, DISTIL, distill),
    )


def test_the_loss_is_the_mean_of_each_kind_of_rows_added() -> None:
    """ln 2 = 0.693147 of private rows, -(ln 1/4 + ln 3/4)/2 = 0.836988 of transfer rows, in every batch."""
    phase = joined(*phases(5, 4, Steps(1, 2, "sgd", 0.5), Steps(1, 3, "adam", 9.0)))
    assert phase.count == 3
    net = ModuleForward(Says())
    for index in batches(phase, np.random.default_rng(0)):
        batch = {name: tensor[torch.from_numpy(index)] for name, tensor in phase.rows.items()}
        rows = phase.loss(net, batch, {})
        # Two private rows and one other: 3/2 and 3 times their losses.
        assert rows[:2].tolist() == pytest.approx([1.5 * 0.693147] * 2, abs=1e-5)
        assert rows[2:].tolist() == pytest.approx([3 * 0.836988], abs=1e-5)
        assert rows.mean().item() == pytest.approx(0.693147 + 0.836988, abs=1e-5)


def test_a_step_follows_both_gradients_with_the_optimiser_of_training() -> None:
    """Gradient: (1/2 - 1, 1/2) of private rows plus (1/4 - 1/2, 3/4 - 1/2) of the others = (-3/4, 3/4)."""
    module = Says()
    phase = joined(*phases(2, 3, Steps(1, 2, "sgd", 0.5), Steps(1, 3, "adam", 9.0)))
    assert (phase.name, phase.private, phase.count) == ("train", True, 1)
    fit(module, phase, {}, seed=0, client="0", round_=1)
    assert module.shift.tolist() == pytest.approx([0.375, -0.375])


def test_a_weight_is_what_the_teachers_rows_count() -> None:
    """Half of the teacher's gradient beside all of the private one: -1/2 - 1/8 = -5/8, times the rate 1/2."""
    module = Says()
    phase = joined(*phases(2, 3, Steps(1, 2, "sgd", 0.5), Steps(1, 3, "adam", 9.0)), weight=0.5)
    fit(module, phase, {}, seed=0, client="0", round_=1)
    assert module.shift.tolist() == pytest.approx([0.3125, -0.3125])


def test_the_losses_of_both_kinds_are_told_apart() -> None:
    """At rate 0 the model stays as it is, so that every step has the same two losses."""
    phase = joined(*phases(5, 4, Steps(2, 2, "sgd", 0.0), Steps(1, 3, "sgd", 0.0)))
    losses = Losses(phase)
    fit(Says(), phase, {}, seed=0, client="0", round_=1, losses=losses)
    assert losses.means().tolist() == pytest.approx([0.693147, 0.836988], abs=1e-5)


def test_every_batch_has_as_many_of_both_kinds_and_there_are_as_many_as_training_takes() -> None:
    # 5 private rows by 2 in two passes: 6 batches, whatever distillation takes by itself.
    phase = joined(*phases(5, 3, Steps(2, 2, "sgd", 0.1), Steps(9, 3, "sgd", 0.1)))
    assert (phase.count, phase.size) == (6, 8)
    order = [batch.tolist() for batch in batches(phase, np.random.default_rng(0))]
    assert [(sum(i < 5 for i in b), sum(i >= 5 for i in b)) for b in order] == [(2, 1)] * 6
    private = [i for b in order for i in b if i < 5]
    others = [i for b in order for i in b if i >= 5]
    assert sorted(private[:5]) == sorted(private[5:10]) == [0, 1, 2, 3, 4]
    assert sorted(others[:3]) == sorted(others[3:]) == [5, 6, 7]
    # Fewer rows than a batch: all of them in each.
    small = joined(*phases(1, 7, Steps(3, 2, "sgd", 0.1), Steps(1, 3, "sgd", 0.1)))
    assert [sum(i < 1 for i in b) for b in batches(small, np.random.default_rng(0))] == [1, 1, 1]
    assert [len(b) for b, _ in zip(unending(0, 4, np.random.default_rng(0)), range(2), strict=False)] == [
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("local", "distill", "coupled", "others"),
    [(32, 64, False, 16), (32, 8, False, 8), (1, 64, False, 1), (32, 64, True, 64)],
)
def test_transfer_rows_are_at_most_half_as_many_as_private_ones_unless_they_are_compared(
    local: int, distill: int, coupled: bool, others: int
) -> None:
    own, other = phases(40, 100, Steps(1, local, "sgd", 0.1), Steps(1, distill, "sgd", 0.1))
    batch = next(batches(joined(own, replace(other, coupled=coupled)), np.random.default_rng(0)))
    assert [int((batch < 40).sum()), int((batch >= 40).sum())] == [local, others]


@pytest.mark.parametrize("loss", [kl, ce])
def test_both_losses_as_one_cross_entropy_are_what_they_are_one_after_the_other(loss: Any) -> None:
    """A loss under another name stays one of two."""
    private, public = phases(6, 5, Steps(1, 4, "sgd", 0.1), Steps(1, 2, "sgd", 0.1))
    target = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    private = replace(private, rows={"x": torch.randn_like(private.rows["x"]), "y": torch.arange(6) % 2})
    public = replace(
        public, rows={**public.rows, "target": target}, loss=partial(distillation, loss=loss, temperature=1.0)
    )
    two = replace(public, loss=partial(distillation, loss=partial(loss), temperature=1.0))
    one, other = (joined(private, phase, weight=0.7) for phase in (public, two))
    assert (one.loss, other.loss.func) == (at_once, jointly)  # type: ignore[attr-defined]
    a, b = (phase.loss(ModuleForward(Says()), phase.rows, {}) for phase in (one, other))
    assert torch.allclose(a, b, atol=1e-6)


def test_nothing_to_digest_leaves_training_as_it_is() -> None:
    training, digestion = phases(5, 0, Steps(1, 2, "sgd", 0.1), Steps(2, 3, "sgd", 0.1))
    assert joined(training, digestion) is training
    _, digestion = phases(5, 2, Steps(1, 2, "sgd", 0.1), Steps(2, 3, "sgd", 0.1))
    with pytest.raises(ValueError, match="cannot be joined"):
        joined(training, replace(digestion, private=True))


def test_stacked_clients_take_the_joint_steps_that_each_takes_alone() -> None:
    """Clients of unlike sizes, less than a batch of private rows among them; one taught about fewer rows."""
    net = models.build(
        {"name": "mlp", "width": 8, "hidden": [8], "dropout": 0.3}, InputSpec("tabular", (2,)), 2, 0
    )
    jobs = []
    for k, (own, other) in enumerate([(30, 40), (7, 40), (16, 20)]):
        draw = torch.Generator().manual_seed(k)
        private = {
            "x": torch.randn(own, 2, generator=draw),
            "y": torch.randint(2, (own,), generator=draw),
        }
        public = {"x": torch.randn(other, 2, generator=draw), "target": torch.randn(other, 2, generator=draw)}
        local, distill = Steps(2, 16, "adam", 0.01), Steps(1, 8, "sgd", 9.0)
        phase = joined(
            Fit("train", private, classification, local, private=True), Fit("digest", public, DISTIL, distill)
        )
        start = {n: t + 0.01 * k for n, t in net.state_dict().items()}
        jobs.append(FitJob("train", net, start, phase, {}, 3, str(k), 1))
    assert [job.phase.count for job in jobs] == [4, 2, 2]
    with one_thread():
        alone, together = one_by_one(jobs), fit_stacked(Stack(net), jobs)
    for job, a, b in zip(jobs, alone, together, strict=True):
        assert torch.allclose(a.losses, b.losses, atol=1e-5) and a.losses.shape == (2,)
        assert max(float((a[0][n] - b[0][n]).abs().max()) for n in a[0]) < 1e-5
        assert any(not torch.equal(a[0][n], job.tensors[n]) for n in a[0])


PRIVATE = {"delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}


def scenario(**more: Any) -> Any:
    return from_dict(
        {
            "name": "joint",
            "data": {
                "partition": {"kind": "dirichlet", "alpha": 0.5, "clients": 3, "samples_per_client": 20},
                "transfer": {"size": 20},
            },
            "clients": {
                "models": [{"name": "mlp", "width": 8, "hidden": [8]}],
                "local": {"epochs": 1},
                "distill": {"epochs": 1, "batch_size": 8, "together": True},
            },
            "strategy": {"name": "knfu"},
            "rounds": 2,
            "engine": {"kind": "inline", "cohort": "off"},
            **more,
        }
    )


def apart(made: Any, together: bool | None = False) -> Any:
    """The same scenario with phases apart, or as the strategy has it."""
    distill = made.clients.distill.model_copy(update={"together": together})
    return made.model_copy(update={"clients": made.clients.model_copy(update={"distill": distill})})


@pytest.mark.parametrize("strategy", ["knfu", "cfd"])
def test_a_teacher_is_learned_from_in_its_phase_and_rehearsed_in_the_next_training(
    strategy: str, tmp_path: Path
) -> None:
    """Adam counts: 3 steps before anybody is taught, then one a round as without; 3 of each distillation."""
    result = fedkt.simulate(scenario(strategy={"name": strategy}), out=tmp_path / "run")
    store = DiskStore(result.path / "checkpoint" / "clients")
    for client in ("0", "1", "2"):
        first, last = store.load(client, below=4), store.load(client, below=6)
        assert first is not None and last is not None
        counts = [
            {
                key.split("/", 1)[0]: int(tensor)
                for key, tensor in state.tensors.items()
                if key.endswith("/step")
            }
            for state in (first, last)
        ]
        assert counts == [
            {"optimizer:train": 3, "optimizer:digest": 3},
            {"optimizer:train": 4, "optimizer:digest": 6},
        ]
    assert result.clients["before_digest"].notna().all()


def test_before_anybody_is_taught_there_are_as_many_steps_as_distillation_takes() -> None:
    """5 private rows by 2 in one pass are 3 steps; 7 transfer rows by 3 in two passes 6, of 2 of them 2."""
    training, _ = phases(5, 7, Steps(1, 2, "sgd", 0.1), Steps(2, 3, "sgd", 0.1))
    held = checked_world(scenario()).holding("0")
    held = replace(held, transfer=torch.zeros(7, 2), distill=Steps(2, 3, "sgd", 0.1))
    assert untaught(training, held, Transfer(size=7)).count == 6
    assert untaught(training, held, Transfer(size=7, rows=2)) is training
    assert untaught(training, replace(held, transfer=None), None) is training
    # Two sets of 3 at an audition are 6 rows, 2 batches a pass; of two sets of 300 a round asks about 300
    # of the 600 rows, 100 batches a pass.
    sets = ["made:shapes", "made:strokes"]
    assert untaught(training, held, Transfer(size=3, audition=sets)).count == 2 * 2
    many = replace(held, transfer=torch.zeros(600, 2))
    assert untaught(training, many, Transfer(size=300, audition=sets)).count == 2 * 100


def test_a_private_run_may_join_where_noise_is_added_to_what_is_sent(tmp_path: Path) -> None:
    logits = PRIVATE | {"mode": "logit_gauss", "clip": 1.0}
    result = fedkt.simulate(scenario(privacy=logits), out=tmp_path / "run")
    assert result.summary["replies"]["accepted"] == 6
    with pytest.raises(
        InputError, match=r"'dpsgd' trains on private rows alone, but clients\.distill\.together"
    ):
        checked_world(scenario(privacy=PRIVATE | {"mode": "dpsgd"}))


@pytest.mark.parametrize(
    ("strategy", "privacy", "joint"),
    [
        ({"name": "dwc"}, {}, True),
        ({"name": "complementary"}, {}, True),
        ({"name": "held"}, {}, True),
        ({"name": "transferability"}, {}, True),
        ({"name": "dynamic_logits"}, {}, False),
        ({"name": "knfu"}, {}, False),
        ({"name": "fedmd"}, {}, False),
        ({"name": "dwc", "weights": "energy"}, PRIVATE | {"mode": "dpsgd"}, False),
        ({"name": "dwc"}, PRIVATE | {"mode": "logit_gauss", "clip": 1.0}, True),
    ],
)
def test_where_the_scenario_leaves_it_open_the_strategy_decides(
    strategy: dict[str, str], privacy: dict[str, Any], joint: bool
) -> None:
    made = scenario(strategy=strategy, **({"privacy": privacy} if privacy else {}))
    assert checked_world(apart(made, None)).together is joint


def test_densities_are_refused_where_training_alone_is_private() -> None:
    made = scenario(strategy={"name": "dwc"}, privacy=PRIVATE | {"mode": "dpsgd"})
    with pytest.raises(InputError, match=r"strategy\.weights is density.* 'dpsgd' pays for; use energy"):
        checked_world(made)


def test_who_teaches_nothing_about_transfer_rows_is_refused() -> None:
    for name in ("fd", "fedproto", "fedka"):
        with pytest.raises(InputError) as raised:
            checked_world(scenario(strategy={"name": name}))
        problem = {
            "fd": "strategy 'fd' makes nothing of clients.distill.together",
            "fedproto": "strategy 'fedproto' makes nothing of clients.distill.together",
        }.get(name, f"clients.distill.together is true, but strategy '{name}' does not distil on transfer")
        assert problem in str(raised.value)
