"""Losses against numbers worked out by hand, their gradients, and how they run stacked."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fedkt import registry
from fedkt.distill import about, nd, prototype_mse, supervised_contrastive
from fedkt.distill.losses import as_logits
from fedkt.distill.prototype import hard_contrastive, hardness, nearest
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.scenario import from_dict
from fedkt.strategy.for_task import losses_for
from fedkt.tasks import CLASSIFICATION

LOSSES = {
    name: registry.find("losses", f"fedkt.distill.losses:{name}")
    for name in ("kl", "mse", "mae", "ce", "mse_prob", "dkd")
}
every_loss = pytest.mark.parametrize("loss", [pytest.param(loss, id=name) for name, loss in LOSSES.items()])

PROTOTYPES = torch.tensor([[0.0, 2.0], [1.0, 1.0], [3.0, -1.0]])
KNOWN = torch.tensor([True, True, False])
LABELS = torch.tensor([0, 1, 2, 0])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log(*rows: tuple[float, ...]) -> Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def by_prototype(name: str, prototypes: Tensor, known: Tensor, y: Tensor) -> Any:
    """The three prototype losses as functions of the features alone."""
    return {
        "prototype_mse": partial(prototype_mse, prototypes=prototypes, known=known, y=y),
        "nd": partial(nd, prototypes=prototypes, y=y, known=known),
        "supervised_contrastive": partial(
            supervised_contrastive, prototypes=prototypes, y=y, temperature=0.5, known=known
        ),
        "hard_contrastive": partial(
            hard_contrastive, prototypes=prototypes, y=y, temperature=0.5, known=known
        ),
    }[name]


every_prototype_loss = pytest.mark.parametrize(
    "name", ["prototype_mse", "nd", "supervised_contrastive", "hard_contrastive"]
)


# ---- numbers by hand


def test_kl() -> None:
    student, teacher = log((0.5, 0.5)), log((0.8, 0.2))
    # 0.8 ln(0.8/0.5) + 0.2 ln(0.2/0.5) = 0.376003 - 0.183258
    assert LOSSES["kl"](student, teacher, 1.0).item() == pytest.approx(0.192745, abs=1e-6)
    # T=2 takes roots: sqrt(0.8) : sqrt(0.2) = 2 : 1, so the teacher is (2/3, 1/3).
    # 4 (2/3 ln(4/3) + 1/3 ln(2/3)) = 4 (0.191788 - 0.135155)
    assert LOSSES["kl"](student, teacher, 2.0).item() == pytest.approx(0.226532, abs=1e-6)
    # A second row on which both agree has 0 and leaves the first one as it is.
    two = LOSSES["kl"](log((0.5, 0.5), (0.9, 0.1)), log((0.8, 0.2), (0.9, 0.1)), 1.0)
    assert two.tolist() == pytest.approx([0.192745, 0.0], abs=1e-6)


def test_ce() -> None:
    student, teacher = log((0.25, 0.75)), log((0.8, 0.2))
    # -(0.8 ln 0.25 + 0.2 ln 0.75) = 1.109035 + 0.057536
    assert LOSSES["ce"](student, teacher, 1.0).item() == pytest.approx(1.166572, abs=1e-6)
    # T=0.5 squares the teacher alone: 0.64 : 0.04 = 16 : 1.
    # -(16/17 ln 0.25 + 1/17 ln 0.75) = 1.304747 + 0.016922
    assert LOSSES["ce"](student, teacher, 0.5).item() == pytest.approx(1.321670, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_mse_and_mae_read_logits_at_every_temperature(temperature: float) -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 1.0], [0.0, -4.0]])
    # (4 + 1)/2;  (0 + 16)/2
    assert LOSSES["mse"](student, teacher, temperature).tolist() == [2.5, 8.0]
    # (2 + 1)/2;  (0 + 4)/2
    assert LOSSES["mae"](student, teacher, temperature).tolist() == [1.5, 2.0]


def test_mse_prob() -> None:
    student, teacher = log((0.5, 0.5)), log((0.8, 0.2))
    # (0.3² + 0.3²)/2
    assert LOSSES["mse_prob"](student, teacher, 1.0).item() == pytest.approx(0.09)
    # T=2: (2/3 - 1/2)² for both
    assert LOSSES["mse_prob"](student, teacher, 2.0).item() == pytest.approx(1 / 36)


def test_dkd() -> None:
    dkd = LOSSES["dkd"]
    student, teacher = log((0.2, 0.4, 0.4)), log((0.5, 0.3, 0.2))
    # The teacher's largest is class 0.  TCKD: 0.5 ln(0.5/0.2) + 0.5 ln(0.5/0.8) = 0.458145 - 0.235002
    # Others: teacher (0.6, 0.4), student (0.5, 0.5).  NCKD: 0.6 ln 1.2 + 0.4 ln 0.8 = 0.109393 - 0.089257
    assert dkd(student, teacher, 1.0).item() == pytest.approx(0.223144 + 8 * 0.0201355, abs=2e-6)
    assert dkd(student, teacher, 1.0, alpha=3.0, beta=0.0).item() == pytest.approx(3 * 0.223144, abs=2e-6)
    # Label 2.  TCKD: 0.2 ln(0.2/0.4) + 0.8 ln(0.8/0.6) = -0.138629 + 0.230146
    # Others: teacher (0.625, 0.375), student (0.5, 0.5).  0.625 ln 1.25 + 0.375 ln 0.75 = 0.139465 - 0.107881
    student = log((0.3, 0.3, 0.4))
    labelled = dkd(student, teacher, 1.0, torch.tensor([2]), alpha=1.0, beta=1.0)
    assert labelled.item() == pytest.approx(0.091516 + 0.031584, abs=2e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_dkd_with_the_coupled_weight_is_kl(temperature: float) -> None:
    student, teacher = drawn(1, 5), drawn(1, 5, seed=1)
    not_target = 1 - (teacher / temperature).softmax(-1).max().item()
    dkd = LOSSES["dkd"](student, teacher, temperature, alpha=1.0, beta=not_target)
    assert dkd.item() == pytest.approx(LOSSES["kl"](student, teacher, temperature).item())


def test_dkd_of_two_classes_has_nothing_but_the_target_part() -> None:
    student, teacher = log((0.5, 0.5)), log((0.8, 0.2))
    assert LOSSES["dkd"](student, teacher, 1.0).item() == pytest.approx(0.192745, abs=1e-6)


def test_prototype_mse() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0], [0.0, 2.0]])
    rows = prototype_mse(features, PROTOTYPES, LABELS, known=KNOWN)
    # (1² + 0²)/2;  (2² + 3²)/2;  class 2 has no prototype: 0;  on its prototype: 0
    assert rows.tolist() == [0.5, 6.5, 0.0, 0.0]
    assert rows.mean().item() == 1.75  # all four rows are in it


def test_nd() -> None:
    y = torch.tensor([0, 0, 0, 1])
    features = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, -7.0], [3.0, 3.0]])
    rows = nd(features, PROTOTYPES, y)
    # Class 0: e=(0, 1), length 2.  1 - 4/max(5, 2);  1 - 1/max(1, 2);  1 + 7/7
    # Class 1: e=(1, 1)/√2.  1 - 6/√2 / √18 = 0
    assert rows.tolist() == pytest.approx([0.2, 0.5, 2.0, 0.0], abs=1e-6)
    assert rows.mean().item() == pytest.approx(0.675)
    # The teacher's own lengths: 1 - 4/max(5, 10);  1 - 1/max(1, 0.5) = 0;  1 + 7/7;  1 - √18/max(√18, 2√18)
    own = torch.tensor([10.0, 0.5, 1.0, 2 * math.sqrt(18)])
    rows = nd(features, PROTOTYPES, y, teacher_norm=own)
    assert rows.tolist() == pytest.approx([0.6, 0.0, 2.0, 0.5], abs=1e-6)


def test_nd_leaves_out_classes_without_a_direction() -> None:
    prototypes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    features = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    # Class 0 has a prototype of length 0, class 1 is at a right angle, class 2 is unknown.
    rows = nd(features, prototypes, torch.arange(3), known=torch.tensor([True, True, False]))
    assert rows.tolist() == [0.0, 1.0, 0.0]


def test_supervised_contrastive() -> None:
    features, prototypes = torch.tensor([[5.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    # Cosines (1, 0, 1) over 0.5: -ln(e² / (2 e² + 1)) = ln(2 + e⁻²)
    value = supervised_contrastive(features, prototypes, torch.tensor([0]), 0.5)
    assert value.item() == pytest.approx(math.log(2 + math.exp(-2)), abs=1e-6)
    # Without the third: ln(1 + e⁻²) = 0.126928
    known = torch.tensor([True, True, False])
    value = supervised_contrastive(features, prototypes, torch.tensor([0]), 0.5, known=known)
    assert value.item() == pytest.approx(0.126928, abs=1e-6)
    # A row of the third class has nothing to be pulled to.
    assert supervised_contrastive(features, prototypes, torch.tensor([2]), 0.5, known=known).item() == 0


# ---- properties


def test_probabilities_become_logits_and_come_back() -> None:
    p = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64)
    for temperature in (1.0, 4.0):
        back = (as_logits(p, temperature) / temperature).softmax(-1)
        assert torch.allclose(back, p, atol=2e-8)


@every_loss
def test_a_student_like_its_teacher_has_no_gradient(loss: Any) -> None:
    teacher = drawn(4, 3)
    student = teacher.clone().requires_grad_()
    value = loss(student, teacher, 1.0)
    entropy = -(teacher.softmax(-1) * teacher.log_softmax(-1)).sum(-1)
    least = entropy if loss is LOSSES["ce"] else torch.zeros(4, dtype=torch.float64)
    assert torch.allclose(value, least, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert gradient.abs().max() < 1e-12


@every_loss
def test_gradients(loss: Any) -> None:
    student, teacher = drawn(3, 4).requires_grad_(), drawn(3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, 2.0), (student,))


@every_prototype_loss
def test_prototype_gradients(name: str) -> None:
    features = drawn(4, 2).requires_grad_()
    loss = by_prototype(name, PROTOTYPES.double(), KNOWN, LABELS)
    assert torch.autograd.gradcheck(loss, (features,))


@every_loss
@pytest.mark.parametrize("sure", [40.0, 2000.0])
def test_very_sure_models_give_finite_values_and_gradients(loss: Any, sure: float) -> None:
    student = torch.tensor([[-sure, sure, 0.0], [sure, 0.0, -sure]], requires_grad=True)
    teacher = torch.tensor([[sure, -sure, 0.0], [sure, 0.0, -sure]])
    value = loss(student, teacher, 1.0)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@every_prototype_loss
def test_features_of_zeros_give_finite_gradients(name: str) -> None:
    features = torch.zeros(4, 2, requires_grad=True)
    value = by_prototype(name, PROTOTYPES, KNOWN, LABELS)(features)
    (gradient,) = torch.autograd.grad(value.sum(), features)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@every_loss
def test_each_row_has_its_own_value(loss: Any) -> None:
    student, teacher = drawn(5, 3), drawn(5, 3, seed=1)
    rows = loss(student, teacher, 2.0)
    assert rows.shape == (5,)
    for i in range(5):
        alone = loss(student[i : i + 1], teacher[i : i + 1], 2.0)
        assert alone.shape == (1,)
        assert torch.allclose(rows[i], alone[0], atol=1e-12)


@every_prototype_loss
def test_each_row_has_its_own_value_by_prototype(name: str) -> None:
    features = drawn(4, 2)
    prototypes = PROTOTYPES.double()
    rows = by_prototype(name, prototypes, KNOWN, LABELS)(features)
    assert rows.shape == (4,)
    assert rows[2] == 0  # its class has no prototype
    for i in range(4):
        alone = by_prototype(name, prototypes, KNOWN, LABELS[i : i + 1])(features[i : i + 1])
        assert alone.shape == (1,)
        assert torch.allclose(rows[i], alone[0], atol=1e-12)


@every_loss
def test_stacked_is_the_same_as_one_by_one(loss: Any) -> None:
    students, teachers = drawn(3, 5, 4), drawn(3, 5, 4, seed=1)

    def total(student: Tensor, teacher: Tensor) -> Tensor:
        value: Tensor = loss(student, teacher, 2.0).sum()
        return value

    gradient = torch.func.grad(total)
    stacked = torch.func.vmap(gradient)(students, teachers)
    alone = torch.stack([gradient(s, t) for s, t in zip(students, teachers, strict=True)])
    assert torch.allclose(stacked, alone, atol=1e-12)


@every_prototype_loss
def test_stacked_prototype_losses_are_the_same_as_one_by_one(name: str) -> None:
    features, prototypes = drawn(3, 4, 2), drawn(3, 3, 2, seed=1)
    known = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    y = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0], [1, 1, 1, 1]])

    def total(z: Tensor, p: Tensor, k: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = by_prototype(name, p, k, labels)(z).sum()
        return value

    gradient = torch.func.grad(total)
    stacked = torch.func.vmap(gradient)(features, prototypes, known, y)
    alone = torch.stack([gradient(*one) for one in zip(features, prototypes, known, y, strict=True)])
    assert torch.allclose(stacked, alone, atol=1e-12)
    assert stacked[2].abs().max() == 0  # nothing is known there


# ---- by name, in a scenario


def described(strategy: dict[str, Any], loss: str | None = None) -> Any:
    data = {"partition": {"samples_per_client": 20}, "transfer": {"size": 50}}
    return from_dict(
        {"name": "losses", "data": data, "strategy": strategy, "clients": {"distill": {"loss": loss}}}
    )


def test_every_loss_fits_the_strategies_of_its_kind() -> None:
    named = losses_for(CLASSIFICATION)
    assert set(registry.names("losses")) - set(named) == {"bernoulli_kl", "bernoulli_ce"}
    for name in named:
        kind = about(registry.find("losses", name))
        fits = {"scores": ({"name": "knfu"}, name), "features": ({"name": "fedproto", "loss": name}, None)}
        world = checked_world(described(*fits[kind]))
        assert world.settings["loss"] == name


@pytest.mark.parametrize(
    ("strategy", "loss", "words"),
    [
        (
            {"name": "knfu"},
            "nd",
            "loss 'nd' compares features, but strategy 'knfu' distils scores; losses for",
        ),
        ({"name": "fedtgp", "loss": "kl"}, None, "loss 'kl' compares scores, but strategy 'fedtgp' distils"),
        ({"name": "fedproto", "loss": "ndd"}, None, "there is no loss 'ndd'; did you mean 'nd'"),
    ],
)
def test_a_loss_of_the_other_kind_is_refused(strategy: dict[str, Any], loss: str | None, words: str) -> None:
    with pytest.raises(InputError) as raised:
        checked_world(described(strategy, loss))
    assert words in str(raised.value)


def test_the_nearest_of_many_prototypes_far_from_zero() -> None:
    """Class i at 10 000 + i: a row on a prototype is that class, also among more than 25."""
    prototypes = 10_000 + torch.arange(40.0)[:, None].expand(40, 8)
    scores = nearest(prototypes.clone(), prototypes, torch.ones(40, dtype=torch.bool))
    assert scores.argmax(-1).tolist() == list(range(40))
    assert scores.diagonal().tolist() == [0.0] * 40


def test_near_classes_weigh_more() -> None:
    """Cosines .5845, .1173 and .2259 of three classes; temperature .1: exp(5.845 - 1.173) : 1 = 106.9 : 1."""
    prototypes = torch.tensor([[0.7, 0.25, 0.05], [0.2, 0.7, 0.1], [0.02, 0.08, 0.9]])
    everything = torch.ones(3, dtype=torch.bool)
    found = hardness(prototypes, everything, 0.1)
    expected = [[0.0, 1.9815, 0.0185], [1.9461, 0.0, 0.0539], [0.5050, 1.4950, 0.0]]
    assert torch.allclose(found, torch.tensor(expected), atol=2e-4)
    assert torch.allclose(hardness(prototypes, everything, 1e9), 1 - torch.eye(3), atol=1e-5)
    # A class without a prototype is no negative; then the other one has all the weight there is.
    found = hardness(prototypes, torch.tensor([True, True, False]), 0.1)
    assert torch.allclose(found[0], torch.tensor([0.0, 1.0, 0.0]))


def test_hard_contrastive_by_hand() -> None:
    """Unit prototypes at right angles, a feature along the first, temperature 1: scores 1, 0, 0.

    Negatives weigh 1 each, being equally near: log(1 + 2 exp(-1)) = .5514, as without weights. Two unlabelled
    rows, one along the feature and one across: mean ratio (1 + exp(-1))/2 = .6839, less the share of a third
    of the own term, (.6839 - .3333)/(2/3) = .5259; log(1 + .7358 + 2 * .5259) = 1.0252.
    """
    prototypes, y = torch.eye(3), torch.tensor([0])
    features = torch.tensor([[2.0, 0.0, 0.0]])
    plain = supervised_contrastive(features, prototypes, y, 1.0)
    assert hard_contrastive(features, prototypes, y, 1.0).item() == pytest.approx(0.5514, abs=1e-4)
    assert hard_contrastive(features, prototypes, y, 1.0).item() == pytest.approx(plain.item(), abs=1e-6)
    others = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    assert hard_contrastive(features, prototypes, y, 1.0, others=others).item() == pytest.approx(
        1.0252, abs=1e-4
    )
    # Rows that are all opposite count the least that there is: exp(-1 - 1) each.
    away = -features.repeat(4, 1)
    least = math.log(1 + 2 * math.exp(-1) + 4 * math.exp(-2))
    assert hard_contrastive(features, prototypes, y, 1.0, others=away).item() == pytest.approx(
        least, abs=1e-5
    )
    # A near class counts more than a far one, so the loss is larger than with all alike.
    near = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
    row = torch.tensor([[1.0, 0.0]])
    assert hard_contrastive(row, near, y, 1.0) > supervised_contrastive(row, near, y, 1.0)
