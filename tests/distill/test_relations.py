"""Losses of how answers relate: the numbers of their sources' code, and laws that must hold."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fedkt
from fedkt import registry
from fedkt.client import Fit, Steps, classification, distillation
from fedkt.client.digesting import digestion
from fedkt.client.joint import joined
from fedkt.client.training import ModuleForward, batches
from fedkt.distill import (
    class_relation,
    dist,
    is_coupled,
    kl,
    logit_std,
    pkt,
    rkd,
    row_graph,
    skd_direction,
    spkd,
)
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.cohorts import _may_be_stacked
from fedkt.engine.clients.jobs import FitJob
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario import from_dict, to_dict

STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [1.0, -1.0, 0.0]]).double()
TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 2.0]]).double()
RELATIONAL = {"dist": dist, "pkt": pkt, "spkd": spkd, "rkd": rkd, "skd_direction": skd_direction}
BETWEEN_ROWS = {**RELATIONAL, "row_graph": row_graph}
ALL = {**BETWEEN_ROWS, "logit_std": logit_std}
every = pytest.mark.parametrize("name", ALL)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, *expected: float) -> bool:
    return torch.allclose(found, torch.tensor(expected).double(), atol=6e-5, rtol=0)


def test_logits_are_compared_at_mean_0_and_deviation_1() -> None:
    """(2, 0, -1) and (3, 1, 0) are (1.0911, -.2182, -.8729) both; (0, 1, .5) is (-1, 1, 0)."""
    assert near(logit_std(STUDENT, TEACHER, 1.0)[:2], 0.0, 0.1001)
    assert near(logit_std(STUDENT, TEACHER, 2.0)[:2], 0.0, 0.1636)
    shifted = 3 * STUDENT + 5
    assert torch.allclose(logit_std(shifted, TEACHER, 1.0), logit_std(STUDENT, TEACHER, 1.0), atol=1e-6)


def test_correlations_within_rows_and_within_classes() -> None:
    """Within rows 0, .1060, 1.2578; within classes .2966, .0009, .7080, mean .3352: .7897 in all."""
    rows = dist(STUDENT, TEACHER, 1.0)
    assert torch.allclose(rows - 0.3352, torch.tensor([0.0, 0.1060, 1.2578]).double(), atol=2e-4)
    assert near(rows.mean(), 0.7897)


def test_similarities_as_shares() -> None:
    """Sums of rows .0614, .0254, .0441, divided by the three rows; the published mean is .0145."""
    assert near(3 * pkt(STUDENT, TEACHER), 0.0614, 0.0254, 0.0441)
    assert near(pkt(STUDENT, TEACHER).mean(), 0.0145)


def test_gram_matrices() -> None:
    assert near(spkd(STUDENT, TEACHER).mean(), 0.1364)


def test_distances_and_angles() -> None:
    """.0167 of distances and twice .0128 of angles."""
    assert near(rkd(STUDENT, TEACHER).mean(), 0.0423)
    assert torch.allclose(rkd(3 * STUDENT + 1, TEACHER), rkd(STUDENT, TEACHER), atol=1e-12)


def test_directions() -> None:
    assert near(skd_direction(STUDENT, TEACHER), 1.4081, 0.8515, 1.0677)


def test_the_graph_of_nearest_rows() -> None:
    """One neighbour: edges .2231 and .0724 of the student, .0041 and .0015 of the teacher."""
    assert near(row_graph(STUDENT, TEACHER, neighbours=1).sum(), 0.0103)
    assert not near(row_graph(STUDENT, TEACHER, neighbours=2).sum(), 0.0103)


HELD = torch.tensor([[True, True, False, False]])


def test_relations_of_held_classes_are_kept() -> None:
    """Own (2, 1, 0, 0), now (1, 1, 2, 0), 0 and 1 held: g .3932, KL of (.7311, .2689) to (.5, .5) .1109.

    A batch of one row has g / mean g = 1, so what comes to kl is that KL; twice it with weight 2, and with
    two rows each one's share of g.
    """
    own, now = torch.tensor([[2.0, 1.0, 0.0, 0.0]]).double(), torch.tensor([[1.0, 1.0, 2.0, 0.0]]).double()
    teacher = torch.tensor([[0.0, 0.0, 3.0, 0.0]]).double()
    given: dict[str, Any] = {"before": own, "held": HELD}
    learned = kl(now, teacher)
    assert near(class_relation(now, teacher, **given) - learned, 0.1109)
    assert near(class_relation(now, teacher, weight=2.0, **given) - learned, 0.2219)
    assert torch.equal(class_relation(now, teacher, weight=0.0, **given), learned)
    # (1, 1, 4, 0) gives the held classes 2e/(2e + e^4 + 1) = .0891; the mean of both is .2411.
    two, both = torch.tensor([[1.0, 1.0, 2.0, 0.0], [1.0, 1.0, 4.0, 0.0]]).double(), teacher.repeat(2, 1)
    held = class_relation(two, both, before=own.repeat(2, 1), held=HELD.repeat(2, 1)) - kl(two, both)
    assert near(held, 0.1809, 0.0410)
    # One class has no relations; none is held where nothing is.
    for held_here in (HELD & torch.tensor([True, False, False, False]), HELD & False):
        assert torch.equal(class_relation(now, teacher, before=own, held=held_here), learned)


def test_what_was_said_before_goes_into_the_phase(tmp_path: Path) -> None:
    """The rows of a digestion get it as it begins; in joint steps too."""
    told = scenario("dwc", "class_relation")
    world = checked_world(told)
    held = world.holding("0")
    phase = digestion(held, drawn(5, 1, 8, 8).float(), drawn(5, 10).float())
    assert phase.coupled
    (asked,) = phase.first
    assert asked.rows(drawn(5, 4), TEACHER)["before"] is TEACHER
    assert torch.equal(phase.rows["held"][0], held.label_share > 0)
    training = world.behaviour(held).train(None)
    assert training is not None
    (asked,) = joined(training, phase).first
    filled = asked.rows(drawn(5, 4), TEACHER)["before"]
    assert torch.equal(filled, torch.cat([torch.zeros(20, 3).double(), TEACHER]))
    for together in (False, True):
        described = from_dict({**to_dict(told), "rounds": 2, "engine": {"kind": "inline"}})
        found = fedkt.simulate(
            described, [f"clients.distill.together={json.dumps(together)}"], out=tmp_path / str(together)
        )
        assert found.clients["global"].notna().all()
    served = from_dict({**to_dict(told), "server_model": {"model": "mlp"}})
    with pytest.raises(InputError, match="and the server's has no client"):
        checked_world(served)


@every
def test_a_student_like_its_teacher_costs_nothing(name: str) -> None:
    z = drawn(6, 4)
    student = z.clone().requires_grad_()
    value = ALL[name](student, z, 1.0)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.abs().max() < 1e-6
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["pkt", "spkd", "rkd", "skd_direction", "row_graph"])
def test_turning_what_a_student_says_changes_nothing(name: str) -> None:
    turn, _ = torch.linalg.qr(drawn(4, 4, seed=2))
    student, teacher = drawn(6, 4), drawn(6, 4, seed=1)
    loss = BETWEEN_ROWS[name]
    assert torch.allclose(loss(student @ turn, teacher, 1.0), loss(student, teacher, 1.0), atol=1e-9)


@every
def test_gradients(name: str) -> None:
    student, teacher = drawn(5, 4).requires_grad_(), drawn(5, 4, seed=1)
    if name == "skd_direction":  # its covariance is taken as it stands
        (gradient,) = torch.autograd.grad(skd_direction(student, teacher).sum(), student)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    else:
        assert torch.autograd.gradcheck(lambda s: ALL[name](s, teacher, 2.0), (student,))


@every
@pytest.mark.parametrize("rows", [1, 2])
def test_equal_or_few_rows_give_finite_values_and_gradients(name: str, rows: int) -> None:
    for student in (torch.zeros(rows, 3), torch.full((rows, 3), 50.0), torch.eye(3)[:rows] * 80):
        student = student.requires_grad_()
        value = ALL[name](student, torch.eye(3)[:rows] * 90, 1.0)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        assert value.shape == (rows,)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


def test_those_that_compare_rows_are_marked_and_not_stacked() -> None:
    assert {name for name in registry.names("losses") if is_coupled(registry.find("losses", name))} == set(
        [*BETWEEN_ROWS, "class_relation"]
    )
    plain = Fit("digest", {"x": torch.zeros(2, 2)}, classification, Steps(1, 2, "sgd", 0.1))
    job = FitJob("digest", torch.nn.Linear(2, 2), {}, plain, {}, 0, "0", 1)
    assert _may_be_stacked(job)
    assert not _may_be_stacked(replace(job, phase=replace(plain, coupled=True)))


def test_in_joint_steps_transfer_rows_are_compared_among_themselves() -> None:
    """A batch of 2 private and 3 transfer rows: the second part is that of the 3 rows alone."""
    private = {"x": drawn(2, 3).float(), "y": torch.tensor([0, 1])}
    public = {"x": drawn(3, 3, seed=1).float(), "target": drawn(3, 3, seed=2).float()}
    loss = partial(distillation, loss=rkd, temperature=1.0)
    phase = joined(
        Fit("train", private, classification, Steps(1, 2, "sgd", 0.1), private=True),
        Fit("digest", public, loss, Steps(1, 3, "sgd", 0.1), coupled=True),
    )
    assert phase.coupled
    net = ModuleForward(Twice())
    (rows,) = batches(phase, numpy_stream(0, "a"))
    batch = {name: tensor[rows] for name, tensor in phase.rows.items()}
    alone = classification(net, private, {}).mean() + loss(net, public, {}).mean()
    assert torch.allclose(phase.loss(net, batch, {}).mean(), alone)


class Twice(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 2 * x


def scenario(strategy: str, loss: str) -> Any:
    return from_dict(
        {
            "name": "relations",
            "data": {"partition": {"clients": 2, "samples_per_client": 20}, "transfer": {"size": 20}},
            "clients": {"models": [{"name": "mlp", "width": 4, "hidden": [4]}], "distill": {"loss": loss}},
            "strategy": {"name": strategy},
            "allow": ["features"],
        }
    )


def test_who_has_no_rows_together_is_refused() -> None:
    with pytest.raises(
        InputError, match="loss 'rkd' compares rows with one another, which strategy 'fedgkt'"
    ):
        checked_world(scenario("fedgkt", "rkd"))
    for strategy in ("knfu", "cfd", "dwc"):
        assert checked_world(scenario(strategy, "rkd")).settings["loss"] == "rkd"
