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
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario import from_dict
from fedkt.scenario.about_data import Transfer
from fedkt.strategy.choosing import picking
from fedkt.strategy.choosing.audition import Audition, information
from fedkt.strategy.choosing.chooser import RowChoice
from fedkt.strategy.choosing.shares import Shares, cross_entropy
from fedkt.strategy.choosing.sieve import Sieve, typical
from fedkt.strategy.choosing.utilities.changing import changing
from fedkt.strategy.choosing.utilities.contested import contested
from fedkt.strategy.choosing.utilities.dense import dense
from fedkt.strategy.choosing.utilities.gap import gap
from fedkt.strategy.choosing.utilities.rare import rare
from fedkt.strategy.choosing.utilities.said import Said
from fedkt.strategy.choosing.utilities.telling import telling
from fedkt.strategy.choosing.utility import UTILITIES
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


@pytest.mark.parametrize("name", sorted(set(UTILITIES) - {"random", "census"}))
def test_permuted_rows_are_worth_the_same(name: str) -> None:
    said = torch.rand(3, 8, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    utility = UTILITIES[name]
    if utility.rows is not None:
        seen = said[0].double().numpy()
        found, permuted = (torch.from_numpy(utility.rows(rows)) for rows in (seen, seen[order]))
    else:
        found = utility.of(Said(said, said[:1], said[1]))
        permuted = utility.of(Said(said[:, order], said[:1, order], said[1, order]))
    assert found.shape == (8,)
    assert torch.allclose(found[order], permuted, atol=1e-6)


def test_contested_by_hand() -> None:
    """(.9, .1) and (.1, .9): .3681 of ln 2 = .6931; sure opposites: all of it; all in doubt alike, or sure of
    one class: nothing."""
    a, b, half, one, other = [0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]
    found = contested(torch.tensor([[a, one, half, one], [b, other, half, one]]))
    assert found.tolist() == pytest.approx([0.3681 / 0.6931, 1, 0, 0], abs=1e-4)


def test_telling_by_hand() -> None:
    """Usual answer (.6, .4) of (.9, .1), (.1, .9), (.5, .5), (.9, .1): KL .9 ln 1.5 + .1 ln .25 = .2263, then
    .5506, .0204, .2263; their mean .2559 is the information of row and answer."""
    rows = torch.tensor([[[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.9, 0.1]]])
    found = telling(rows)
    assert found.tolist() == pytest.approx([0.2263, 0.5506, 0.0204, 0.2263], abs=1e-4)
    assert found.mean() == pytest.approx(information(rows), abs=1e-6)
    # Who says the same of all rows tells nothing, nor does who leaves rows out.
    same = torch.tensor([[[1.0, 0.0]] * 4])
    assert telling(same).tolist() == [0, 0, 0, 0]
    assert telling(torch.cat([rows, 0 * rows])).tolist() == pytest.approx(found.tolist())


def test_changes_seldom_classes_and_neighbours_by_hand() -> None:
    """Half of |.9 - .6| + |.1 - .4| is .3. Shares (.75, .25): -.9 ln .75 - .1 ln .25 = .3975, then .8630 for
    (.6, .4). Of 0, 1, 3 and 7 on a line the mean distances to the three others are 11/3, 9/3, 9/3, 17/3."""
    teachers = torch.tensor([[[0.9, 0.1], [0.6, 0.4]]])
    found = changing(teachers, torch.tensor([[0.6, 0.4], [0.6, 0.4]]))
    assert found.tolist() == pytest.approx([0.3, 0.0])
    assert rare(teachers).tolist() == pytest.approx([0.3975, 0.7271], abs=1e-4)
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert dense(line).tolist() == pytest.approx([-11 / 3, -3, -3, -17 / 3])
    assert dense(line[:1]).tolist() == [0]


def test_what_changed_is_told_by_the_round_before() -> None:
    choice = RowChoice(transfer(policy="changing"), 6, 0)
    sure = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    choice.learn(np.array([0, 1], np.int32), None, sure[None])
    assert choice.worth is not None
    assert choice.worth[:2].tolist() == [0.5, 0.0]
    assert choice.worth[2:].isinf().all()
    tensors, note = choice.state()
    again = RowChoice(transfer(policy="changing"), 6, 0)
    again.load({name: tensor.clone() for name, tensor in tensors.items()}, note)
    for one in (choice, again):
        one.learn(np.array([0, 1], np.int32), None, sure.flip(0)[None])
        assert one.worth is not None
        assert one.worth[:2].tolist() == [0.5, 0.5]


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


def test_without_a_policy_contested_rows_are_asked_about_where_rows_stay(tmp_path: Path) -> None:
    """A trusted server sees no client's own answers and fedka may hear none at all: then it is by chance."""
    assert (transfer().rule.utility, transfer().rule.explore) == ("contested", 0.2)
    assert transfer(**{"from": "made:shapes", "refresh": "round"}).rule.utility == "random"
    data = {**SMALL["data"], "transfer": {"size": 60, "rows": 12}}  # type: ignore[dict-item]
    private = {"mode": "central_gauss", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}
    fedmd = {"name": "fedmd", "average": "probabilities"}
    cases: list[dict[str, Any]] = [
        {"strategy": fedmd, "privacy": private},
        {"strategy": {"name": "fedka", "voting": "off"}},
    ]
    for number, parts in enumerate(cases):
        scenario = from_dict({**SMALL, "data": data, "rounds": 2, **parts})
        result = fedkt.simulate(scenario, out=tmp_path / str(number))
        assert result.rounds["status"].tolist() == ["fused"] * 2


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


# Several sets, and rows that are kept -------------------------------------------------------------


def test_shares_of_domains_by_hand() -> None:
    """Ratios 2, 1.0714 and 3: exp 7.389, 2.920, 20.086, so (.2431, .0961, .6608); once more, with half of
    the shares alike, (.2252, .1758, .5990). A teacher that is sure has the ratio 5."""
    shares = Shares(3, 10)
    assert shares.counts(10).tolist() == [4, 3, 3]
    floor, lost = torch.tensor([1.0, 1.4, 1.0]), torch.tensor([2.0, 1.5, 3.0])
    shares.ratios = (lost / floor).double().numpy()
    shares.hear(np.zeros(0, np.int32), torch.zeros(1, 0, 2), torch.zeros(1, 0, 2))
    assert shares.values == pytest.approx([0.2431, 0.0961, 0.6608], abs=1e-4)
    assert shares.counts(10).tolist() == [2, 1, 7]
    assert shares.counts(20).tolist() == [8, 2, 10]  # the third has no more
    shares.hear(np.zeros(0, np.int32), torch.zeros(1, 0, 2), torch.zeros(1, 0, 2))
    assert shares.values == pytest.approx([0.2252, 0.1758, 0.5990], abs=1e-4)
    # CE of (.8, .2) to (.9, .1): -.9 ln .8 - .1 ln .2 = .3618; entropy of (.9, .1): .3251.
    said, teacher = torch.tensor([[[0.8, 0.2]]]), torch.tensor([[[0.9, 0.1]]])
    assert cross_entropy(said, teacher).tolist() == pytest.approx([0.3618], abs=1e-4)
    alike = Shares(2, 1)
    alike.hear(None, said.expand(1, 2, 2), torch.cat([teacher, torch.tensor([[[1.0, 0.0]]])], 1))
    assert alike.ratios == pytest.approx([0.3618 / 0.3251, 5.0], abs=1e-3)


def test_rows_typical_of_each_class_are_kept_by_hand() -> None:
    """Of class 0 rows 0 (.9), 3 (.8) and 1 (.6), of class 1 rows 4 (.9) and 2 (.7): in turn 0, 4, 3, 2."""
    said = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2], [0.1, 0.9]])
    assert typical(said, 3).tolist() == [0, 3, 4]
    assert typical(said, 4).tolist() == [0, 2, 3, 4]
    sieve, found = Sieve(3), []
    for teachers in (torch.full((1, 5, 2), 0.5), said[None]):
        sieve.hear(teachers)
        found.append(None if sieve.kept is None else sieve.kept.tolist())
    assert found == [None, [0, 3, 4]]


@pytest.mark.parametrize(
    "told",
    [
        "{from: 'made:shapes', size: 60, keep: 24, rows: 10}",
        "{audition: ['made:shapes', 'made:leaves'], size: 30, policy: domains, rows: 20}",
        *(
            pytest.param(f"{{from: 'made:shapes', size: 60, rows: 10, {more}}}", marks=pytest.mark.slow)
            for more in (
                "policy: {utility: changing, explore: 0.2}",
                "policy: {utility: dense, mechanism: cover}, refresh: round",
            )
        ),
    ],
)
def test_a_choice_of_rows_goes_on_after_a_resume(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedkt.engine.loop.loop import Loop

    changes = [f"data.transfer={told}", "strategy={name: fedmd, average: probabilities}", "rounds=4"]
    one_round = Loop._one_round

    def dies(loop: Loop, grid: Any, number: int) -> None:
        one_round(loop, grid, number)
        if number == 2:
            raise KeyboardInterrupt

    result = fedkt.simulate(SMALL, changes, out=tmp_path / "whole")
    assert result.rounds["status"].tolist() == ["fused"] * 4
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_round", dies)
        with pytest.raises(KeyboardInterrupt):
            fedkt.simulate(SMALL, changes, out=tmp_path / "cut")
    fedkt.simulate(SMALL, changes, out=tmp_path / "cut", resume=True)
    assert final_states(tmp_path / "cut") == final_states(tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "cut" / "rounds.jsonl").read_text().splitlines()]
    said = lines[-1]["report"]
    if "keep" in told:
        assert said["kept"] == 24
        assert lines[-1]["bytes"]["up"] < lines[0]["bytes"]["up"] / 4
    if "domains" in told:
        assert sum(said["domains"].values()) == pytest.approx(1, abs=1e-3)
        assert min(said["domains"].values()) >= 0.25


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
        (
            "from: 'made:shapes', keep: 5, refresh: round",
            "data.transfer.refresh is round, but data.transfer.keep keeps rows for all rounds; one must be "
            "left out.",
        ),
        ("keep: 20", "data.transfer.keep is 20; it must be below the set's size, 20."),
        (
            "rows: 9, keep: 5",
            "data.transfer.keep is 5; it must be below the set's size, 20 and at least "
            "data.transfer.rows, 9.",
        ),
        (
            "audition: ['made:shapes', 'made:strokes'], keep: 5",
            "data.transfer has audition and keep; a set that is chosen by what is said of some of its rows "
            "is kept whole, so one must be left out.",
        ),
        (
            "rows: 5, policy: domains",
            "data.transfer has policy domains, but no several sets; audition must name them.",
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
