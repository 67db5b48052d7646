"""Where a budget went, and label-only inversion: what they say, and that they are drawn."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedkt.client.training import one_thread
from fedkt.engine.audits import inverted as attack
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.privacy import budget as pictures
from fedkt.privacy.accounting import Event, spent
from fedkt.privacy.attacks.inversion import SHOWN, invert, likeness
from fedkt.privacy.budget import BUDGET, draw_budget, draw_inversion, payments
from fedkt.privacy.ledger import Ledger, Purpose
from fedkt.scenario import from_dict

STEP = Event("gauss", "record", 2.0, 0.25, 4)
RELEASE = Event("gauss", "record", 4.0, discrete=True)
PNG = b"\x89PNG"
STEPS = 250


def ledger(folder: Path, rounds: int = 2, stage: str = "train") -> Ledger:
    found = Ledger(folder)
    for number in range(1, rounds + 1):
        found.reserve(
            Purpose("run", number, stage),
            [STEP, RELEASE],
            delta=1e-5,
            unit="record",
            change="zeroed out",
            most=20.0,
        )
    return found


# Where the budget went ------------------------------------------------------------------------------------


def test_payments_by_purpose(tmp_path: Path) -> None:
    """Each is what epsilon grew by: training first, then the release, in round 1 and then in round 2."""
    first, second = payments(ledger(tmp_path).entries())
    histories = [[STEP], [STEP, RELEASE], [STEP, RELEASE, STEP], [STEP, RELEASE, STEP, RELEASE]]
    a, b, c, d = (spent(history, 1e-5).epsilon for history in histories)
    assert (first.label, second.label) == ("1", "2")
    assert first.added == pytest.approx({"training": a, "release": b - a})
    assert second.added == pytest.approx({"training": c - b, "release": d - c})
    assert (first.total, second.total) == pytest.approx((b, d))


def test_a_digestion_and_long_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rounds with room for two bars: rounds 1 to 3, and 4 to 5."""
    monkeypatch.setattr(pictures, "MOST_BARS", 2)
    long = payments(ledger(tmp_path, 5, "digest").entries())
    assert [bar.label for bar in long] == ["1 to 3", "4 to 5"]
    assert set(long[0].added) == {"digestion of a teacher", "release"}
    assert long[-1].total == pytest.approx(spent([STEP, RELEASE] * 5, 1e-5).epsilon)


def test_a_budget_is_drawn(tmp_path: Path) -> None:
    assert draw_budget(tmp_path) is None
    for client, rounds in (("0", 1), ("1", 2)):
        ledger(tmp_path / client / "ledger", rounds)
    drawn = draw_budget(tmp_path)
    assert drawn == tmp_path / BUDGET and drawn.read_bytes().startswith(PNG)


# Label-only inversion -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    """Small products are quicker on one thread."""
    with one_thread():
        yield


def halves(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of 4x4 pixels: class 0 is bright on the left, class 1 on the right."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, n)
    x = draw.uniform(0, 0.3, (n, 1, 4, 4))
    x[y == 0, :, :, :2] += 0.6
    x[y == 1, :, :, 2:] += 0.6
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def brighter(images: Tensor) -> Tensor:
    return (images[..., 2:].mean((1, 2, 3)) > images[..., :2].mean((1, 2, 3))).long()


def test_labels_alone_tell_what_a_class_looks_like() -> None:
    public, _ = halves(200, 0)
    before = torch.random.get_rng_state()
    found = invert(public, brighter, 2, seed=0, steps=STEPS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found.images.shape == (2, SHOWN, 1, 4, 4) and found.questions == STEPS * 64
    assert brighter(found.images.flatten(0, 1)).tolist() == [0] * SHOWN + [1] * SHOWN
    like = likeness(found.images, halves(200, 1), halves(200, 2), seed=0)
    assert (like.recognised, like.nearest_mean, like.classes) == (1.0, 1.0, 2)
    again = invert(public, brighter, 2, seed=0, steps=STEPS)
    assert torch.equal(found.images, again.images)


def test_likeness_to_members() -> None:
    """Reconstructions that are the client's own rows are nearer to them than to others; and the reverse."""
    own, unseen = halves(40, 1), halves(40, 2)
    mine = torch.stack([own[0][own[1] == label][:3] for label in (0, 1)])
    theirs = torch.stack([unseen[0][unseen[1] == label][:3] for label in (0, 1)])
    assert likeness(mine, own, unseen, seed=0).nearer_to_members == 1.0
    assert likeness(theirs, own, unseen, seed=0).nearer_to_members == 0.0


def test_a_class_that_the_client_lacks_is_left_out() -> None:
    x, y = halves(40, 1)
    only = y == 0
    images = torch.stack([x[only][:3], x[only][:3]])
    like = likeness(images, (x[only], y[only]), halves(40, 2), seed=0)
    assert (like.classes, like.nearest_mean) == (1, 1.0)


def test_an_inversion_is_drawn(tmp_path: Path) -> None:
    x, _ = halves(6, 0)
    nothing = torch.full((1, 4, 4), torch.nan)
    draw_inversion([x[0], nothing], x.view(2, 3, 1, 4, 4), tmp_path / "one.png", "100%")
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)


def test_where_inversion_has_no_sense() -> None:
    described = {
        "name": "inverted",
        "data": {
            "partition": {"kind": "iid", "clients": 2, "samples_per_client": 100},
            "transfer": {"size": 50},
        },
        "strategy": {"name": "knfu"},
        "privacy": {"mode": "vote_rr", "delta": 1e-5, "epsilon_per_vote": 0.01, "max_epsilon": 50},
        "rounds": 1,
    }
    with pytest.raises(InputError, match=r"asks for 192,000 labels, each of which privacy mode 'vote_rr'"):
        attack.check(checked_world(from_dict(described)))
