"""Several labels of a row: by hand, and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from fedkt.data.columns.choices import Choices
from fedkt.distill.bernoulli import as_label_logits, bernoulli_ce, bernoulli_kl
from fedkt.errors import InputError
from fedkt.knowledge import Contributions, Dims, LabelProbabilities, Rejected, encode
from fedkt.scenario import Scenario
from fedkt.strategies.dsfl import DSFL
from fedkt.strategies.held import Held
from fedkt.strategies.knfu import effectiveness
from fedkt.strategy.fusing.weighing import by_energy
from fedkt.tasks import Multilabel
from fedkt.tasks.label_scoring import f1, figures, ranking

TASK = Multilabel()
READ = Choices(task="multilabel")


class Here:
    """What a strategy knows in a test: its task, and a scenario without anything else."""

    task = TASK
    scenario = Scenario(name="here")


def fused(strategy: object, contributions: Contributions) -> torch.Tensor:
    strategy.setting = Here()  # type: ignore[attr-defined]
    return strategy.fuse(contributions).arrays["values"]  # type: ignore[attr-defined]


def test_training_and_teaching_by_hand() -> None:
    z, y = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]])
    # -(ln 1/2 + ln(1 - 3/4)) / 2 = (.693147 + 1.386294) / 2
    assert TASK.row_loss(z, y).item() == pytest.approx(1.039721, abs=1e-6)
    assert TASK.said(z, "probabilities", 1.0).tolist() == [[0.5, pytest.approx(0.75)]]
    assert TASK.said(z, "logits", 1.0) is z
    assert TASK.heard(torch.tensor([[0.5, 0.75]]), "probabilities", 2.0)[0, 1].item() == pytest.approx(
        2 * math.log(3), abs=1e-5
    )
    assert as_label_logits(torch.tensor([0.0, 1.0])).abs().max() < 14
    # KL(.75 || .5) = .75 ln 1.5 + .25 ln .5 = .304099 - .173287; the other label is equal.
    assert bernoulli_kl(torch.zeros(1, 2), z).item() == pytest.approx(0.130812 / 2, abs=1e-5)
    assert bernoulli_kl(z, z).item() == pytest.approx(0.0, abs=1e-7)
    # Cross entropy of q = .75 to p = .5: -(.5 ln .75 + .5 ln .25) = .836988; of .5 to .5: .693147.
    assert bernoulli_ce(z, torch.zeros(1, 2)).item() == pytest.approx((0.693147 + 0.836988) / 2, abs=1e-5)


def test_losses_work_under_vmap_and_grad() -> None:
    s, t = torch.randn(3, 4), torch.randn(3, 4)
    for loss in (bernoulli_kl, bernoulli_ce):
        each = torch.func.vmap(lambda a, b, loss=loss: loss(a[None], b[None], 2.0)[0])(s, t)
        assert torch.allclose(each, loss(s, t, 2.0), atol=1e-6)
        assert torch.func.grad(lambda a, loss=loss: loss(a, t, 2.0).sum())(s).isfinite().all()


def test_divergence_is_the_sum_over_labels_of_bernoulli_ones() -> None:
    # KL(.5 || .8) = ln 1.25 = .223144, KL(.8 || .5) = .8 ln 1.6 + .2 ln .4 = .192745; equal labels add 0.
    epd = torch.tensor([[0.5, 0.3], [0.8, 0.3]])
    d = TASK.divergence(epd)
    assert d.flatten().tolist() == pytest.approx([0, 0.223144, 0.192745, 0], abs=1e-6)
    weights = effectiveness(epd, 10.0, task=TASK)
    assert weights[0].tolist() == pytest.approx([0.903037, 0.096963], abs=1e-5)
    mean = TASK.described(torch.tensor([[[0.2, 0.4], [0.6, 0.0]]]))
    assert mean.flatten().tolist() == pytest.approx([0.4, 0.2])


def test_joint_energy_and_what_it_weighs() -> None:
    z = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])
    # ln 2 + ln 2, ln 4 + ln 2
    assert TASK.energy(z).flatten().tolist() == pytest.approx([2 * math.log(2), 3 * math.log(2)], abs=1e-6)
    both = TASK.energy(torch.cat([z, z.flip(1)]))
    expected = [1 / (1 + math.e**2), 1 / (1 + math.e**-2)]
    assert by_energy(both, 1.0)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_dsfl_sharpens_each_label_by_itself() -> None:
    known = Contributions(("0", "1"), {"values": torch.tensor([[[0.9, 0.5]], [[0.5, 0.5]]])})
    # mean .7: softmax((.7, .3) / .1)[0] = 1 / (1 + e^-4)
    strategy = DSFL.__new__(DSFL)
    strategy.config = DSFL.Config()
    assert fused(strategy, known).flatten().tolist() == pytest.approx([1 / (1 + math.e**-4), 0.5], abs=1e-6)


def test_held_asks_the_holders_of_each_label_and_leaves_sums_alone() -> None:
    strategy = Held.__new__(Held)
    strategy.config, strategy._ever = Held.Config(), {}
    arrays = {
        "values": torch.tensor([[[0.9, 0.8]], [[0.1, 0.6]]]),
        "label_share": torch.tensor([[0.5, 0.2], [0.0, 0.4]]),
    }
    assert fused(strategy, Contributions(("0", "1"), arrays)).flatten().tolist() == pytest.approx([0.9, 0.7])


def test_probabilities_need_not_sum_to_one_but_lie_between_0_and_1() -> None:
    dims = Dims(rows=1, transfer=4, classes=3, width=2, answers=LabelProbabilities)
    expected = dims.predictions.expected(dims, probabilities=True, label_share=True)
    share = np.array([0.9, 0.8, 0.0], np.float32)
    encode({"values": np.array([[0.9, 0.8, 0.0]], np.float32), "label_share": share}, expected)
    for bad, reason in (([[1.1, 0, 0]], "range"), ([[np.nan, 0, 0]], "finite"), ([[0.5, 0.5]], "shape")):
        with pytest.raises(Rejected) as raised:
            encode({"values": np.array(bad, np.float32), "label_share": share}, expected)
        assert raised.value.reason == reason
    with pytest.raises(TypeError, match="no row can be left out"):
        dims.predictions.expected(dims, probabilities=True, selected=True)


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.standard_normal((60, 4)), 1)  # with ties
    y = (rng.random((60, 4)) < [0.5, 0.1, 0.3, 0.0]).astype(float)
    w = rng.random(60)
    found = figures(scores, y, w)
    held = [0, 1, 2]
    ap = [sk.average_precision_score(y[:, k], scores[:, k], sample_weight=w) for k in held]
    area = [sk.roc_auc_score(y[:, k], scores[:, k], sample_weight=w) for k in held]
    assert found[""] == pytest.approx(np.mean(ap))
    assert found["auc"] == pytest.approx(np.mean(area))
    said = scores > 0
    macro = sk.f1_score(y[:, held], said[:, held], average="macro", sample_weight=w, zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(y, said, average="micro", sample_weight=w))


def test_what_is_undefined_is_none() -> None:
    assert ranking(np.ones(2), np.zeros(2), np.ones(2)) == (None, None)
    assert ranking(np.ones(2), np.ones(2), np.ones(2)) == (1.0, None)
    assert ranking(np.array([np.nan, 1.0]), np.array([1.0, 0.0]), np.ones(2)) == (0.5, 0.0)
    assert f1(np.ones((2, 1)), np.zeros((2, 1)), np.ones(2)) == (None, None)
    assert TASK.leading(torch.zeros(0, 2), torch.zeros(0, 2)) is None


def test_personal_figures_are_of_rows_mixed_as_the_clients_own() -> None:
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    s = torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    groups = TASK.strata(y.numpy(), y.numpy())
    assert groups.tolist() == [0, 1, 1]
    alone = TASK.measure(s[:1], y[:1], 2, None, None)
    found = TASK.measure(s, y, 2, np.array([1.0, 0.0, 0.0]), groups)
    assert found["personal"] == alone[""] == 1.0
    assert found["personal_micro_f1"] == alone["micro_f1"]


def test_strata_are_the_rarest_labels() -> None:
    of = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]], np.float32)
    assert TASK.strata(of, of).tolist() == [1, 0, 2, 3, 1]
    assert TASK.groups(3) == ["label 0", "label 1", "label 2", "no label"]
    assert TASK.frequencies(of, 3).tolist() == pytest.approx([0.8, 0.4, 0.2])


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([[0, 2], [1, 0]], "y holds 2 (first: row 0, label 1)"),
        ([[0, 0.5], [1, 0]], "numbers are predicted with regression"),
        ([0, 1], "y has 1 label per row"),
        ([[0, math.nan], [1, 0]], "y lacks 1 value (first: row 0, column 1)"),
        ([["a", "b"]], "y holds 'a'"),
        (np.zeros((2, 2, 2)), "it must be [rows, labels]"),
    ],
)
def test_bad_labels_are_told(y: object, words: str) -> None:
    with pytest.raises(InputError) as raised:
        TASK.read("here", y, READ)
    assert words in str(raised.value)


def test_labels_of_a_frame_have_its_names() -> None:
    import pandas as pd

    y, names = TASK.read("here", pd.DataFrame({"cat": [True, False], "dog": [0, 1]}), READ)
    assert names == ("cat", "dog")
    assert y.dtype == np.float32
    assert TASK.lacking(y, 2, names) == []
    assert "label 1 (dog)" in TASK.lacking(y[:1], 2, names)[0]
