"""Images in versions, of which those are asked for that clients find hard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.data.images.versions import WAYS, version, versions
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario import from_dict
from fedkt.strategy.choosing import picking
from fedkt.strategy.choosing.utilities.hard import hard


def test_preferred_ways_by_hand() -> None:
    """Scores (.2, .5, .1), mean .2667: softmax(1.5, 3.75, .75) is (.0912, .8657, .0431); a tenth is even."""
    expected = 0.9 * np.array([0.0912, 0.8657, 0.0431]) + 0.1 / 3
    assert picking.preferred(np.array([0.2, 0.5, 0.1])) == pytest.approx(expected, abs=1e-4)
    assert picking.preferred(np.zeros(4)).tolist() == [0.25] * 4


def test_rows_of_preferred_ways_are_asked_for_more() -> None:
    ways, worth = np.repeat(np.arange(3), 200), np.repeat([0.2, 0.5, 0.1], 200)
    taken = picking.versions(ways, worth, 100, numpy_stream(0, "a"))
    assert len(set(taken.tolist())) == 100
    share = np.bincount(ways[taken], minlength=3) / 100
    # .1154, .8125, .0721 of each row drawn, less what a way of 200 rows runs out of.
    assert share[1] > 0.6 and share[0] > share[2] - 0.05
    # Who was never asked counts as the others do.
    unknown = np.where(ways == 1, np.inf, 0.3)
    even = np.bincount(ways[picking.versions(ways, unknown, 300, numpy_stream(0, "b"))], minlength=3)
    assert even.min() > 70


def test_hard_rows_are_those_that_clients_disagree_with_their_sensible_mean() -> None:
    """(.9, .1), (.5, .5): mean (.7, .3), KL .1537 and .0823, mean .1180; a uniform mean counts nothing."""
    answers = torch.tensor(
        [[[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]], [[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]]]
    ).double()
    found = hard(answers)
    assert found.tolist() == pytest.approx(
        [
            0.5 * (0.7 * np.log(0.7 / 0.9) + 0.3 * np.log(3)) + 0.5 * (0.7 * np.log(1.4) + 0.3 * np.log(0.6)),
            0.0,
            0.0,
        ],
        abs=1e-6,
    )
    assert found[0].item() == pytest.approx(0.1180, abs=2e-4)


def test_versions_of_an_image() -> None:
    dot = np.zeros((1, 1, 8, 8), np.float32)
    dot[0, 0, 4, 4] = 1
    made = versions(dot)
    assert made.shape == (8, 1, 8, 8) and made.dtype == np.float32
    assert np.array_equal(made[0], dot[0]) and made.min() >= 0 and made.max() <= 1
    # An eighth of the height is one pixel.
    assert np.unravel_index(version(dot, 0.0, 0.125, 0.0, 1.0)[0, 0].argmax(), (8, 8)) in ((3, 4), (5, 4))
    grey = (255 * np.random.default_rng(0).random((2, 3, 8, 8))).astype(np.uint8)
    assert versions(grey).dtype == np.uint8 and versions(grey).shape == (16, 3, 8, 8)
    # A quarter turn is that of the array.
    assert np.allclose(version(grey, 90.0, 0.0, 0.0, 1.0), np.rot90(grey, axes=(2, 3))) or np.allclose(
        version(grey, 90.0, 0.0, 0.0, 1.0), np.rot90(grey, -1, axes=(2, 3))
    )
    assert len(WAYS) == 8


def scenario(**transfer: Any) -> Any:
    return from_dict(
        {
            "name": "hard",
            "data": {
                "partition": {"clients": 3, "samples_per_client": 30},
                "transfer": {"size": 80, "rows": 24, "policy": "hard", **transfer},
            },
            "clients": {"models": [{"name": "mlp", "width": 8, "hidden": [8]}], "local": {"epochs": 1}},
            "strategy": {"name": "knfu"},
            "rounds": 3,
            "engine": {"kind": "inline"},
        }
    )


def test_a_run_asks_about_versions(tmp_path: Path) -> None:
    world = checked_world(scenario())
    federation = world.federation
    assert federation.transfer is not None and len(federation.transfer) == 80
    x = federation.transfer.x
    assert np.array_equal(versions(x[:10]), x)
    assert federation.transfer_labels is not None
    assert federation.transfer_labels.tolist() == federation.transfer_labels[:10].tolist() * 8
    told = fedkt.simulate(scenario(), out=tmp_path / "run")
    assert told.clients["global"].notna().all()
    for wrong, sentence in (
        ({"size": 81}, "it must be a multiple of 8"),
        ({"from": "made:shapes"}, "has versions of its rows, which made ones"),
        ({"keep": 30}, "has versions of its rows, which made ones"),
    ):
        with pytest.raises(InputError, match=sentence):
            scenario(**wrong)
