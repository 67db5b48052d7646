"""Text: what is read, what it is trained on, what crosses the wire, and what is refused."""

import math

import numpy as np
import pytest
import torch

from fedkt.client.joint import joined
from fedkt.data.columns.tokens import passages, text_of
from fedkt.data.content.transfer_set import transfer_hash
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Contributions, Rejected, encode
from fedkt.language.topk import heard, said
from fedkt.tasks import Language
from tests.tasks.test_task_contract import described, language

TASK = Language()
FORM = {"form": "probabilities", "top": 4, "places": 3, "compare": "bytes"}


def beliefs(*shape: int) -> torch.Tensor:
    return (3 * torch.randn(*shape, 256, generator=torch.Generator().manual_seed(0))).softmax(-1)


def sent(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """What clients send of [clients, passages · places, 256]."""
    tokens, codes = said(values, 4)
    return {name: part.unflatten(1, (-1, 3)) for name, part in (("tokens", tokens), ("codes", codes))}


def test_bits_per_byte_by_hand() -> None:
    """Four bytes at ln 2 nats each and two at 2 ln 2: 8 bits over 6 bytes; 3 guesses of 6 right."""
    out = torch.tensor([[4 * math.log(2), 1.0], [4 * math.log(2), 2.0]])
    found = TASK.measure(out, torch.tensor([[4.0, 4.0], [2.0, 2.0]]), 2, None, None)
    assert found[""] == pytest.approx(8 / 6)
    assert found["next_byte"] == pytest.approx(0.5)
    assert not TASK.metric.higher_is_better
    assert TASK.goodness(out, torch.tensor([[4.0, 4.0], [2.0, 2.0]])).tolist() == pytest.approx([-1.0, -2.0])


def test_what_is_opened_is_written_as_it_was() -> None:
    arrays = sent(beliefs(2, 6))
    opened = TASK.opened(
        Contributions(("a", "b"), arrays | {"density": torch.tensor([[1.0, 2.0]] * 2)}), FORM
    )
    assert opened.values.shape == (2, 6, 256)
    assert opened.arrays["density"].tolist() == [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]] * 2
    written = TASK.written({"values": opened.values[0], "rows": torch.arange(2)}, FORM, {})
    alike = [torch.sort(part.int()).values for part in (written["tokens"], arrays["tokens"][0])]
    assert torch.equal(*alike)  # of equal codes the lower byte is named first
    assert written["rows"].tolist() == [0, 1]
    again = heard(written["tokens"], written["codes"]).flatten(0, 1)
    torch.testing.assert_close(again, opened.values[0], atol=0.03, rtol=0.2)


def test_a_mean_of_logarithms_is_a_geometric_mean() -> None:
    q = torch.full((2, 3, 256), 1e-6)
    q[:, :, 0], q[0, :, 1], q[1, :, 1], q[0, :, 2], q[1, :, 2] = 0.5, 0.4, 0.1, 0.1, 0.4
    opened = TASK.opened(Contributions(("a", "b"), sent(q)), {**FORM, "form": "logits"})
    written = TASK.written({"values": opened.values.mean(0)}, {**FORM, "form": "logits"}, opened.arrays)
    back = heard(written["tokens"], written["codes"])[0, 0]
    ratio = back[0] / back[1]
    assert ratio.item() == pytest.approx(0.5 / 0.2, rel=0.1)  # 0.2 = √(0.4 · 0.1); the plain mean is 0.25


def test_those_who_write_alike_are_near() -> None:
    q = beliefs(1, 3).expand(3, -1, -1).clone()
    q[2] = q[2].flip(-1)
    d = TASK.divergence(TASK.described(q))
    assert d[0, 1].abs() < 1e-9 < 0.1 < d[0, 2]


def test_private_and_public_text_are_trained_on_but_for_private_training() -> None:
    plain = checked_world(described("language", "local"))
    phase = plain.player("0").train(None)
    rows = len(plain.holding("0").x)
    public = plain.holding("0").transfer
    assert phase is not None and public is not None and phase.size == rows + len(public)
    assert torch.equal(phase.rows["y"][:, 0], (phase.rows["x"] > 0).sum(1).float())
    mode = "privacy={mode: dpsgd, noise_multiplier: 1.0, max_epsilon: 1e6, delta: 1e-3}"
    private = checked_world(described("language", "fedmd", mode)).player("0").train(None)
    assert private is not None and private.size == rows and private.private


def test_a_joint_phase_holds_passages_with_places_and_without() -> None:
    world = checked_world(described("language"))
    player = world.player("0")
    blank = world.behaviour.teacher(world.dims("0"), world.settings, with_rows=False)
    teacher = {name: torch.zeros(spec.shape, dtype=torch.uint8) for name, spec in blank.items()}
    training, digestion = player.train(None), player.digest(teacher)
    assert training is not None and digestion is not None
    both = joined(training, digestion)
    length, places = player.holding.x.shape[1], player.holding.settings["places"]
    assert both.rows["x"].shape == (training.size + digestion.size, length + places)
    assert (both.rows["x"][: training.size, length:] == 0).all()
    assert (both.rows["x"][training.size :, length:] > 0).any()


def test_passages_are_cut_for_all_alike_and_one_byte_makes_another_hash() -> None:
    texts = np.array([b"abcdef", "äb".encode()])
    cut = passages("x", texts, 3)
    assert [text_of(row) for row in cut] == [b"abc", "ä".encode() + b"b"]
    assert transfer_hash(cut) == transfer_hash(passages("x", np.array([b"abcxyz", "äb".encode()]), 3))
    assert transfer_hash(cut) != transfer_hash(passages("x", np.array([b"abdxyz", "äb".encode()]), 3))
    with pytest.raises(InputError, match="x has no text in row 1; leave the row out"):
        passages("x", np.array(["a", None], object), 3)


def test_text_does_not_leave() -> None:
    world = checked_world(described("language"))
    expected = world.full_contribution("0")
    own = world.holding("0").x.numpy()
    good = {name: np.zeros(spec.shape, np.uint8) for name, spec in expected.items()}
    good["tokens"][:] = np.arange(4)
    good["codes"][:] = 255
    encode(good, expected)
    for arrays in (
        {**good, "text": own.astype(np.uint8)},
        {**good, "tokens": own[:30, :48].astype(np.uint8)},
    ):
        with pytest.raises(Rejected):
            encode(arrays, expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.task=classification", "data.dataset=digits", "clients.models=[mlp]"], "is about text"),
        (["data.speech={top: 256}"], "255"),
        (["clients.models=[mlp]"], "model 'mlp' takes"),
        (["strategy=fedavg"], "what it fuses is one answer per row, or weights"),
        (["strategy={name: dwc, weights: energy}"], "it must be density"),
        (
            ["privacy={mode: logit_gauss, noise_multiplier: 1, clip: 1, max_epsilon: 9, delta: 1e-3}"],
            "dpsgd and",
        ),
        (["clients.distill.loss=dkd"], "whose losses are kl, ce"),
        (
            [
                "clients.models=[{name: lm, tokens: 300}]",
                "privacy={mode: dpsgd, noise_multiplier: 1.0, max_epsilon: 1e6, delta: 1e-3}",
            ],
            "set 'tokenizer: public', or 'tokens: 256'",
        ),
    ],
)
def test_what_makes_no_sense_of_text_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        checked_world(described("language", "fedmd", *settings))
    assert words in str(raised.value)


def test_the_made_text_has_no_labels() -> None:
    assert language()[1] is None
    assert checked_world(described("language")).federation.pool.y.shape[1] == 2
