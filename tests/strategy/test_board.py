"""A board in place of rounds: ages, who is there, when they come, and what is refused."""

from typing import Any

import pytest
import torch

from fedkt import registry
from fedkt.adversity.churn import Churn, speeds_of
from fedkt.engine.loop.coming import Coming
from fedkt.errors import InputError
from fedkt.knowledge.contributions import Contributions
from fedkt.scenario import Board as Settings
from fedkt.scenario import Churn as ChurnSettings
from fedkt.scenario import load
from fedkt.strategy.board_checks import board_problems, no_board
from fedkt.strategy.fusing.fusion import mix
from fedkt.strategy.rounds.board import Board


def board(*deposits: tuple[str, float], **settings: Any) -> Board:
    made = Board(Settings(**settings))
    for number, (client, at) in enumerate(deposits, 1):
        made.now = at
        made.put(client, number, {"values": torch.full((2,), float(number))})
    return made


def test_a_half_life_halves() -> None:
    """30 s older at a half-life of 10 s is 2^-3; weights do not change while nobody comes."""
    found = board(("a", 0.0), ("b", 20.0), ("c", 30.0), half_life_s=10.0)
    assert found.weights(["a", "b", "c"]).tolist() == [0.125, 0.5, 1.0]  # type: ignore[union-attr]
    assert found.weights(["a", "b"]).tolist() == [0.25, 1.0]  # type: ignore[union-attr]
    found.now = 1000.0
    assert found.weights(["a", "c"]).tolist() == [0.125, 1.0]  # type: ignore[union-attr]
    assert board(("a", 0.0), ("b", 9.0)).weights(["a", "b"]) is None


def test_a_newer_deposit_takes_the_place_of_the_last_and_old_ones_are_left_out() -> None:
    found = board(("10", 0.0), ("9", 5.0), ("10", 8.0), fresh_s=4.0)
    assert {c: a["values"].tolist() for c, a in found.fresh().items()} == {"9": [2.0, 2.0], "10": [3.0, 3.0]}
    assert list(found.fresh()) == ["9", "10"]
    found.now = 9.5
    assert list(found.fresh()) == ["10"]
    again = Board(Settings(fresh_s=4.0))
    again.load(*found.state())
    assert again.held.keys() == found.held.keys() and again.now == 9.5
    assert again.held["10"].number == 3
    assert torch.equal(again.held["10"].arrays["values"], torch.full((2,), 3.0))


def test_age_enters_means_and_mixtures() -> None:
    """By hand: of 0 and 1 with ages that weigh 1 and 1/2 the mean is 1/3; weights 3 : 1 become 3 : 1/2."""
    values = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    ages = torch.tensor([1.0, 0.5])
    strategy = registry.find("strategies", "fedmd").__new__(registry.find("strategies", "fedmd"))
    assert strategy.centre(values)[0].tolist() == [0.5, 0.5]
    strategy.ages = ages
    assert strategy.centre(values)[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    by_row = torch.tensor([[1.0], [3.0]])  # weights [clients, rows]: 1 and 3/2
    assert strategy.centre(values, by_row)[0].tolist() == pytest.approx([0.6, 0.4])
    mixed = mix(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), values, ages)
    assert mixed[0, 0].tolist() == pytest.approx([1 / 7, 6 / 7])
    assert mixed[1, 0].tolist() == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("name", ["dwc", "fedmd", "dsfl", "knfu"])
def test_those_that_fit_count_an_old_contribution_less(name: str) -> None:
    """With the age of one client's knowledge its say in every teacher falls, and vanishes in the end."""
    kind = registry.find("strategies", name)
    assert no_board(kind) is None
    strategy = kind.__new__(kind)
    strategy.config, strategy.client_settings = kind.Config(), {"temperature": 1.0}
    values = torch.tensor([[[0.9, 0.1]], [[0.8, 0.2]], [[0.6, 0.4]]])
    arrays = {"values": values, "density": torch.zeros(3, 1)}
    said = []
    for weight in (1.0, 0.5, 0.0):
        strategy.ages = torch.tensor([1.0, 1.0, weight])
        teachers = strategy.fuse(Contributions(("a", "b", "c"), arrays)).teachers
        said.append(teachers[0]["values"][0, 1].item())
    assert said[0] > said[1] > said[2]


def test_clients_come_when_they_are_due_and_there() -> None:
    """Training takes a 2 s and b 3 s, digesting half of that."""
    seconds = {"a": 2.0, "b": 3.0}
    coming = Coming.begun(["a", "b"], lambda c, _, stage: seconds[c] * (1 if stage == "train" else 0.5))
    assert (coming.next(lambda _: True), coming.now) == ("a", 2.0)
    assert coming.again("a", digested=True) == 3.0  # due again at 5
    coming.measured["a"] = 3.0, {"global": 0.5}
    assert coming.known() == {}
    assert (coming.next(lambda _: True), coming.now) == ("b", 3.0)
    assert coming.known() == {"a": {"global": 0.5}} and coming.measured == {}
    assert coming.again("b", digested=False) == 3.0  # due again at 6
    read = Coming.read(coming.state(), coming.lasts)
    assert (read.next(lambda c: c == "b"), read.now) == ("b", 6.0)
    assert (read.next(lambda c: c == "a"), read.now) == ("a", 6.0)  # was due at 5, while nobody let it in
    assert read.next(lambda _: False) is None


def test_speeds_are_spread_by_ratio() -> None:
    assert speeds_of(ChurnSettings(speeds=(1, 8)), list("abcd")) == pytest.approx(
        {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
    )
    assert speeds_of(ChurnSettings(speeds=(5, 1, 2)), list("abc")) == {"a": 5.0, "b": 1.0, "c": 2.0}
    churn = Churn(ChurnSettings(speeds=(1, 4), seconds=8.0, spread=0.0), list("abc"), 5, 0)
    assert [churn.fate(c, 3, "train", 0).seconds for c in "abc"] == pytest.approx([8.0, 4.0, 2.0])


FITS = {
    "name": "b",
    "data": {"transfer": {"size": 20}},
    "strategy": "knfu",
    "engine": {"kind": "board"},
}


def told(**more: Any) -> list[str]:
    scenario = load({**FITS, **more})
    return board_problems(registry.find("strategies", scenario.strategy.name), scenario)


def test_what_a_board_cannot_do_is_said_all_at_once() -> None:
    assert told() == []
    found = told(
        strategy="ktpfl",
        participation={"fraction": 0.5, "deadline_s": 9.0},
        engine={"kind": "board", "workers": 2},
        data={"transfer": {"size": 20, "rows": 5}},
        evaluate={"every": 2},
        privacy={"mode": "dpsgd", "delta": 1e-5, "target_epsilon": 8.0},
    )
    assert [problem.split(",")[0] for problem in found] == [
        "engine.kind is board",
        "participation.fraction is set",
        "participation.deadline_s is set",
        "engine.workers is set",
        "data.transfer chooses rows round by round",
        "evaluate.every is set",
        "privacy.target_epsilon is spread over rounds",
    ]
    assert "strategy 'ktpfl' remembers what it fused in each round" in found[0]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fd", "not about transfer rows"),
        ("held", "remembers what it fused"),
        ("complementary", "more than weighted means"),
        ("fedavg", "not about transfer rows"),
    ],
)
def test_who_does_not_fit_and_why(name: str, why: str) -> None:
    assert why in str(no_board(registry.find("strategies", name)))


def test_a_half_life_without_a_board_and_noise_of_a_round_are_refused() -> None:
    (found,) = told(engine={"kind": "ray"}, board={"fresh_s": 5.0})
    assert found == "board is set, but engine.kind is 'ray'; leave it out, or set engine.kind to board."
    (found,) = told(
        strategy="fedmd",
        privacy={"mode": "central_gauss", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 9.0},
    )
    assert found.startswith("privacy.mode is central_gauss, whose noise is added once")
    with pytest.raises(InputError, match=r"churn\.speeds names 3 speeds, but there are 4 clients"):
        from fedkt.engine.checks.checked import checked_world

        partition = {"kind": "iid", "clients": 4, "samples_per_client": 20}
        data = {"transfer": {"size": 20}, "partition": partition}
        checked_world(load({**FITS, "data": data, "churn": {"speeds": [1, 2, 3]}}))
