"""Which rows are asked about: what they are worth and how they are picked, by hand; and which set is talked
about."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt import scenario
from fedkt.engine.world.checked import checked_world
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario import from_dict
from fedkt.scenario.about_data import Transfer
from fedkt.strategy.choosing import picking
from fedkt.strategy.choosing.audition import Audition, information
from fedkt.strategy.choosing.chooser import RowChoice
from fedkt.strategy.choosing.utility import UTILITIES, gap
from tests.engine.test_engine import SMALL, final_states


def transfer(**more: Any) -> Transfer:
    return Transfer.model_validate({"size": 6, "rows": 2, **more})


def test_gap_by_hand() -> None:
    """KL((.9, .1) || (.8, .2)) = .9 ln(.9/.8) + .1 ln(.1/.2) = .1060 - .0693 = .0367; then .1920 and
    .0050."""
    teacher = torch.tensor([[[0.9, 0.1], [0.6, 0.4], [0.55, 0.45]]])
    student = torch.tensor([[[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]]])
    assert gap(student, teacher).tolist() == pytest.approx([0.0367, 0.1920, 0.0050], abs=1e-4)
    # A client that left a row out says nothing about it.
    both = torch.cat([student, torch.zeros_like(student)])
    assert gap(both, teacher).tolist() == pytest.approx([0.0367, 0.1920, 0.0050], abs=1e-4)


@pytest.mark.parametrize("name", sorted(set(UTILITIES) - {"random"}))
def test_permuted_rows_are_worth_the_same(name: str) -> None:
    said = torch.rand(3, 8, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    of = UTILITIES[name].of
    found, permuted = of(said, said[:1]), of(said[:, order], said[:1, order])
    assert found.shape == (8,)
    assert torch.allclose(found[order], permuted, atol=1e-6)


def test_cover_takes_the_farthest_each_time() -> None:
    """From (0, 0): (6, 5) is farthest; then all others are 1 from one of the two, so the first of them."""
    rows = np.array([[0, 0], [1, 0], [0, 1], [5, 5], [6, 5]], float)
    assert picking.cover(rows, np.zeros(5), 3).tolist() == [0, 4, 1]
    # Among the four that are worth most, begun with the best.
    assert picking.cover(rows, np.array([0.0, 9, 8, 7, 6]), 2).tolist() == [1, 4]


def test_strata_take_from_each_cluster_in_turn() -> None:
    clusters, worth = np.array([0, 0, 0, 1, 1, 2]), np.array([3.0, 2, 1, 5, 4, 0])
    assert sorted(picking.strata(clusters, worth, 3)) == [0, 3, 5]
    assert sorted(picking.strata(clusters, worth, 5)) == [0, 1, 3, 4, 5]


def test_samples_come_with_exponential_chances() -> None:
    """Of 0 and 2, deviation 1, the second comes first with exp(2) / (1 + exp(2)) = .881."""
    draws = numpy_stream(0, "sample")
    first = [picking.sample(np.array([0.0, 2.0]), 1, draws)[0] for _ in range(4000)]
    assert np.mean(first) == pytest.approx(math.exp(2) / (1 + math.exp(2)), abs=0.02)
    assert set(picking.sample(np.array([0.0, np.inf, 5.0, np.inf]), 2, draws)) == {1, 3}


def test_a_share_is_picked_by_chance() -> None:
    """Of 100 rows 10 a round, the best 5 always and 5 others: these differ from round to round."""
    policy = {"utility": "sure", "explore": 0.5}
    choice = RowChoice(Transfer.model_validate({"size": 100, "rows": 10, "policy": policy}), 100, 0)
    sure = torch.linspace(0.5, 1.0, 100)
    choice.learn(None, None, torch.stack([sure, 1 - sure], 1)[None])
    asked = [set(found.tolist()) for n in range(2, 6) if (found := choice.choose(n)) is not None]
    assert all(rows >= {95, 96, 97, 98, 99} and len(rows) == 10 for rows in asked)
    assert len({frozenset(rows) for rows in asked}) == 4


def test_equal_steps_by_hand() -> None:
    """All 60 rows in batches of 32 are 2 batches an epoch; 10 rows alone would be 1."""
    base = {**SMALL, "clients": {"models": ["mlp"], "distill": {"epochs": 3, "batch_size": 32}}}

    def steps(**more: Any) -> int:
        parts = {**SMALL["data"], "transfer": {"from": "train", "size": 60, "rows": 10, **more}}  # type: ignore[dict-item]
        world = checked_world(from_dict({**base, "data": parts}))
        return world.holding("0").distill.count(10)

    assert (steps(), steps(equal_steps=True)) == (3, 6)


# Audition -----------------------------------------------------------------------------------------


def test_information_by_hand() -> None:
    """Rows (.9, .1), (.1, .9), (.5, .5), (.9, .1): H(mean) = .6730, mean H = .4171."""
    rows = torch.tensor([[[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.9, 0.1]]])
    assert information(rows) == pytest.approx(0.6730 - 0.4171, abs=1e-4)
    assert information(rows.flip(1)) == pytest.approx(information(rows), abs=1e-6)
    assert information(rows.flip(2)) == pytest.approx(information(rows), abs=1e-6)
    assert information(torch.cat([rows, rows], 1)) == pytest.approx(information(rows), abs=1e-6)
    assert information(torch.tensor([[[0.7, 0.3]] * 5])) == pytest.approx(0, abs=1e-6)
    assert information(torch.eye(4)[None]) == pytest.approx(math.log(4), abs=1e-6)
    assert information(torch.zeros(2, 3, 4)) == 0.0


def test_an_audition_ends_when_answers_tell_or_after_three_rounds() -> None:
    alike = torch.full((1, 4, 2), 0.5)
    alike[0, 3] = torch.tensor([0.51, 0.49])
    telling = torch.tensor([[[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.1, 0.9]]])
    rows = np.array([0, 1, 2, 3])
    held = Audition(["a", "b"], 2)
    held.hear(rows, telling)
    assert (held.chosen, held.rounds) == (1, 1)
    assert held.block().tolist() == [2, 3]
    # H(mean) - mean H of the second set: ln 2 - .3251 = .3681.
    assert held.report() == {"information": {"a": 0.0, "b": 0.3681}, "chosen": "b"}
    held = Audition(["a", "b"], 2)
    for number in (1, 2, 3):
        assert held.chosen is None
        held.hear(rows, alike)
        assert held.rounds == number
    assert held.chosen == 1


AUDITION: dict[str, Any] = {
    **SMALL,
    "data": {
        "partition": SMALL["data"]["partition"],  # type: ignore[index]
        "transfer": {"audition": ["made:shapes", "tests.strategy.test_choosing:one_image"], "size": 60},
    },
}


def one_image() -> Any:
    """Seventy times the same dark image, about which there is one answer."""
    return np.zeros((70, 1, 8, 8), np.uint8), np.arange(70) % 10


def test_the_set_with_the_most_various_answers_is_talked_about(tmp_path: Path) -> None:
    result = fedkt.simulate(AUDITION, ["clients.local.epochs=5", "rounds=4"], out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    told = [line["report"]["audition"] for line in lines]
    assert told[-1]["chosen"] == "made:shapes"
    assert told[-1]["information"]["tests.strategy.test_choosing:one_image"] == 0.0
    assert told[-1]["information"]["made:shapes"] > 0.02
    assert result.rounds["status"].tolist() == ["fused"] * 4
    # Two sets of 60 rows at the audition, then 60 rows a round, with their numbers.
    first, last = lines[0]["bytes"]["up"], lines[-1]["bytes"]["up"]
    assert 1.9 < first / last < 2.1


def test_an_audition_goes_on_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedkt.engine.loop.loop import Loop

    one_round = Loop._one_round

    def dies(loop: Loop, grid: Any, number: int) -> None:
        one_round(loop, grid, number)
        if number == 1:
            raise KeyboardInterrupt

    fedkt.simulate(AUDITION, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_round", dies)
        with pytest.raises(KeyboardInterrupt):
            fedkt.simulate(AUDITION, out=tmp_path / "cut")
    fedkt.simulate(AUDITION, out=tmp_path / "cut", resume=True)
    assert final_states(tmp_path / "cut") == final_states(tmp_path / "whole")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            "audition: ['made:shapes']",
            "data.transfer.audition names made:shapes alone, so that nothing is chosen; "
            "data.transfer.from must "
            "name it.",
        ),
        (
            "audition: ['made:shapes', 'made:shapes']",
            "data.transfer.audition names a set twice; they must differ.",
        ),
        (
            "audition: ['made:shapes', train]",
            "data.transfer.audition names train; it must name sets that are nobody's own, such as "
            "made:shapes.",
        ),
        (
            "from: 'made:leaves', audition: ['made:shapes', 'made:strokes']",
            "data.transfer.audition is given, and so is data.transfer.from, 'made:leaves'; one must be "
            "left out.",
        ),
        (
            "audition: ['made:shapes', 'made:strokes'], generator: {fall: 1}",
            "data.transfer.generator is given, but generators at an audition have their defaults; it must be "
            "left out.",
        ),
        (
            "from: 'made:shapes', refresh: round, policy: {utility: gap}",
            None,
        ),
    ],
)
def test_auditions_that_make_no_sense(given: str, problem: str | None) -> None:
    with pytest.raises(InputError) as told:
        scenario.load(f"name: a\ndata: {{transfer: {{size: 20, {given}}}}}\n")
    text = str(told.value)
    assert (problem or "with new rows in each round policy must be random") in text


def test_a_mean_that_is_rounded_above_one_is_a_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are all sure: float32 weights may add up to 1.0000001, as a mean of their answers then
    does."""
    from fedkt.strategy import Fused

    world = checked_world(from_dict({**SMALL, "strategy": {"name": "dwc"}}))
    strategy = world.strategy(world.config, world.setting("run", Path()))
    above = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    closed = strategy.course._close(Fused({"values": torch.stack([above, above * 0]).repeat(3, 1)}))
    assert closed is not None
    assert closed.arrays["values"].tolist() == [[1.0, 0.0]] * 3
