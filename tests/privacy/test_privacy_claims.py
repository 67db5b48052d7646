"""What is claimed is what is proven: unit, change and theorem of each mode, and what may depend on rows."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import (
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    RandomizedResponseDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from torch import nn

from fedkt.client import Fit, Steps, classification
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.world.guard import Guard
from fedkt.engine.world.private import epsilons, privacy_notes
from fedkt.errors import InputError
from fedkt.knowledge.kinds import ClassLogits, Prototypes
from fedkt.privacy import dpsgd, mechanisms
from fedkt.privacy.accounting import CHANGES, RELATIONS, Event, spent
from fedkt.privacy.dpsgd import Dpsgd, fit_privately, sampling
from fedkt.privacy.ledger import Declined, Ledger, Purpose, weakest_change
from fedkt.privacy.modes import mode_of
from fedkt.privacy.protection import Mode
from fedkt.privacy.statement import statement
from fedkt.scenario import Scenario, from_dict
from fedkt.scenario.about_privacy import Privacy

DELTA = 1e-5
BASE: dict[str, Any] = {"delta": DELTA, "max_epsilon": 1000}
NOISY = BASE | {"noise_multiplier": 4.0}
TRAINED = NOISY | {"mode": "proto_gauss", "provenance": "dp_trained", "training_noise_multiplier": 2.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    # a strategy and a mode's settings, by the words of the table in docs/privacy.md
    "`dpsgd`": ("knfu", NOISY | {"mode": "dpsgd"}),
    "`dpsgd` with `rows: N`": ("knfu", NOISY | {"mode": "dpsgd", "rows": 100}),
    "`proto_gauss`, `dp_trained`": ("fedproto", TRAINED),
    "`proto_gauss`, `dp_trained` with `rows: N`": ("fedproto", TRAINED | {"rows": 100}),
    "`proto_gauss`, `public`": ("fedproto", NOISY | {"mode": "proto_gauss", "provenance": "public"}),
    "`logit_gauss`": ("fedmd", NOISY | {"mode": "logit_gauss"}),
    "`vote_rr`": ("knfu", BASE | {"mode": "vote_rr", "epsilon_per_vote": 0.2}),
    "`central_gauss`": ("fedmd", NOISY | {"mode": "central_gauss"}),
    "`vote_gnmax`": ("dsfl", BASE | {"mode": "vote_gnmax", "vote_noise": 10.0}),
}
TRAINING = [name for name in VARIANTS if "dpsgd" in name or "dp_trained" in name]


def mode(name: str) -> Mode:
    found = mode_of(Privacy(**VARIANTS[name][1]))
    assert found is not None
    return found


def scenario(name: str, size: int = 100, **privacy: Any) -> Scenario:
    strategy, settings = VARIANTS[name]
    model = "scatter" if "`public`" in name else {"name": "mlp", "width": 8}
    return from_dict(
        {
            "name": "claims",
            "data": {
                "partition": {"kind": "iid", "clients": 3, "samples_per_client": size},
                "transfer": {"size": 30},
            },
            "clients": {"models": [model], "local": {"epochs": 1, "batch_size": 25}},
            "strategy": {"name": strategy},
            "privacy": settings | privacy,
            "rounds": 2,
            "engine": {"kind": "inline"},
        }
    )


# What is proven ----------------------------------------------------------------------------------------


def relation(name: str) -> NeighboringRelation:
    return NeighboringRelation[RELATIONS[mode(name).change]]


def by_pld(name: str, *steps: tuple[float, float, int]) -> float:
    accountant = PLDAccountant(relation(name))
    for noise, rate, count in steps:
        event = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
        accountant.compose(SelfComposedDpEvent(event, count))
    return float(accountant.get_epsilon(DELTA))


def by_rdp(name: str, *parts: tuple[float, float, int]) -> float:
    """The multiplier is relative to the sensitivity of the relation, as ours is."""
    accountant = RdpAccountant(neighboring_relation=relation(name))
    for noise, rate, count in parts:
        event = GaussianDpEvent(noise)
        accountant.compose(PoissonSampledDpEvent(rate, event) if rate < 1 else event, count)
    return float(accountant.get_epsilon(DELTA))


def by_answers(name: str, epsilon: float, count: int) -> float:
    accountant = PLDAccountant(relation(name))
    for _ in range(count):
        accountant.compose(RandomizedResponseDpEvent(10 / (np.exp(epsilon) + 9), 10))
    return float(accountant.get_epsilon(DELTA))


PROOFS = {
    # two rounds of 4 steps at rate 1/4, of one release, of 30 votes
    "`dpsgd`": lambda name: by_pld(name, (4.0, 0.25, 8)),
    "`dpsgd` with `rows: N`": lambda name: by_pld(name, (4.0, 0.25, 8)),
    "`proto_gauss`, `dp_trained`": lambda name: by_rdp(name, (2.0, 0.25, 8), (4.0, 1.0, 2)),
    "`proto_gauss`, `dp_trained` with `rows: N`": lambda name: by_rdp(name, (2.0, 0.25, 8), (4.0, 1.0, 2)),
    "`proto_gauss`, `public`": lambda name: by_rdp(name, (4.0, 1.0, 2)),
    "`logit_gauss`": lambda name: by_rdp(name, (4.0, 1.0, 2)),
    "`vote_rr`": lambda name: by_answers(name, 0.2, 60),
    "`central_gauss`": lambda name: by_rdp(name, (4.0, 1.0, 2)),
    "`vote_gnmax`": lambda name: by_rdp(name, (10 / 2**0.5, 1.0, 60)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_epsilon_is_that_of_the_relation_that_is_claimed(name: str) -> None:
    """dp-accounting, told the relation, says what is planned: RDP to 0.1 %, PLD to 0.002."""
    planned = next(iter(epsilons(checked_world(scenario(name))).values()))[-1]
    assert planned == pytest.approx(PROOFS[name](name), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_table_of_what_is_proven(name: str) -> None:
    """Unit, change, relation, theorem, accountant and what is public, as docs/privacy.md has them."""
    found, world = mode(name), checked_world(scenario(name))
    events = world.costs("0").after(2)
    accountant = spent(events, DELTA, found.unit).accountant
    accountant = re.sub(r" [0-9.]+(?=\))", "", accountant)
    public = found.public.replace("(100)", "(N)")
    row = " | ".join([name, found.unit, found.change, found.theorem, accountant, public])
    text = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
    assert f"| {row} |" in text


def test_the_statement_says_it() -> None:
    one = spent([Event("gauss", "record", 4.0)], DELTA)
    said = {name: statement(Privacy(**privacy), one) for name, (_, privacy) in VARIANTS.items()}
    zero, counted = said["`dpsgd`"], said["`dpsgd` with `rows: N`"]
    assert (zero["unit"], zero["change"], zero["relation"]) == ("record", "zeroed out", "REPLACE_SPECIAL")
    assert "for one record of a client zeroed out, by" in zero["statement"]
    assert "public is each client's number of rows, which is fixed" in zero["statement"]
    assert (counted["change"], counted["relation"]) == ("added or removed", "ADD_OR_REMOVE_ONE")
    assert "privacy.rows (100), not a client's own number of rows" in counted["statement"]
    assert "one client zeroed out" in said["`central_gauss`"]["statement"]
    assert "one client replaced by any other" in said["`logit_gauss`"]["statement"]


# What may depend on the number of rows -----------------------------------------------------------------


def trained(rows: int, slots: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[float, ...]:
    """Train one phase privately and return rate, steps, divisor and scale of the noise."""
    divisors: list[float] = []
    deviations: list[float] = []

    def noted(total: torch.Tensor, noise: torch.Tensor, expected: float) -> torch.Tensor:
        divisors.append(expected)
        return plain(total, noise, expected)

    def drawn(mean: float, deviation: float, *shape: Any, **more: Any) -> torch.Tensor:
        deviations.append(deviation)
        return normal(mean, deviation, *shape, **more)

    plain, normal = dpsgd.noisy, torch.normal
    monkeypatch.setattr(dpsgd, "noisy", noted)
    monkeypatch.setattr(torch, "normal", drawn)
    x = torch.randn(rows, 3)
    phase = Fit(
        "train", {"x": x, "y": torch.zeros(rows, dtype=torch.int64)}, classification,
        Steps(2, 20, "sgd", 0.1), private=True, slots=slots,
    )  # fmt: skip
    fit_privately(Linear(), phase, {}, Dpsgd(2.0, 0.5), seed=0, client="0", round_=1)
    monkeypatch.undo()
    assert len(divisors) == len(deviations)
    ((divisor, deviation),) = set(zip(divisors, deviations, strict=True))
    rate = sampling(phase.counted, phase.steps)[0]
    return rate, len(divisors) / 2, divisor, deviation  # weight and bias


class Linear(nn.Module):
    """Logistic regression."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, self.head(x)


def test_with_public_rows_training_is_the_same_on_n_and_n_plus_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 public rows in batches of 20: rate 1/5, 2 epochs are 10 steps, divisor 20, noise 2 times 0.5."""
    for rows in (0, 1, 100, 101, 220):
        assert trained(rows, 100, monkeypatch) == (0.2, 10, 20.0, 1.0)


def test_without_them_one_row_more_tells_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a record added or removed is not claimed then: rate, steps, divisor of 100 and 101 rows differ."""
    assert trained(100, None, monkeypatch) == (0.2, 10, 20.0, 1.0)
    assert trained(101, None, monkeypatch) == pytest.approx((1 / 6, 12, 101 / 6, 1.0))


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("rows", [100, 101])
def test_a_guard_trains_as_the_ledger_pays(name: str, rows: int, tmp_path: Path) -> None:
    """What is reserved and what is trained come from one number; with ``rows`` it is the public one."""
    world = checked_world(scenario(name, rows))
    guard = Guard(world, "0", world.player("0"), tmp_path)
    phase, how = guard.phase(lambda behaviour: behaviour.train(None), 1)
    assert phase is not None and how is not None and phase.size == rows
    counted = 100 if "rows: N" in name else rows
    assert phase.counted == counted
    purpose = Purpose("run", 1, "train")
    guard.reserve(purpose, [lambda behaviour: behaviour.train(None)], None)
    (entry,) = guard.ledger.entries()
    (event,) = entry["events"]
    assert (event["rate"], event["count"]) == ((0.25, 4) if counted == 100 else (0.2, 5))
    assert event["noise"] == how.multiplier
    assert entry["change"] == mode(name).change


@pytest.mark.parametrize(
    "name", ["`proto_gauss`, `public`", "`logit_gauss`", "`central_gauss`", "`vote_gnmax`"]
)
def test_noise_on_what_is_sent_does_not_ask_for_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scale is the same for 100 rows and 101, and so is what is paid."""
    scales: list[float] = []
    made = mechanisms.discrete_gaussian

    def noted(values: Any, scale: float, sensitivity: float) -> Any:
        scales.append(scale)
        return made(values, scale, sensitivity)

    monkeypatch.setattr(mechanisms, "discrete_gaussian", noted)
    paid = []
    for rows in (100, 101):
        world = checked_world(scenario(name, rows))
        paid.append(world.costs("0").after(2))
        found: Any = world.mode
        if "proto" in name:
            for kind in (Prototypes, ClassLogits):
                features = np.ones((rows, 4))
                found.class_means(kind, features, features, np.zeros(rows, np.int64), 10, 4.0)
        elif name == "`logit_gauss`":
            found.privatise({"values": np.ones((30, 10), np.float32)}, world.full_contribution("0"), 4.0)
        elif name == "`central_gauss`":
            found.mean(np.ones((3, 30, 10)), 3, world.full_contribution("0")["values"], 4.0)
        else:
            found.winners(np.ones((3, 30), np.int64), 10, 10.0)
    assert paid[0] == paid[1]
    half = len(scales) // 2
    assert scales[:half] == scales[half:] and half


def test_the_sum_over_clients_is_over_those_that_were_asked() -> None:
    """A client that is taken out leaves an empty place: 3 asked, 2 answered with 0.6, over 3 is 0.4."""
    told = mechanisms.noisy_client_mean(np.full((2, 1), 0.6), 1.0, 3, 1e-4)
    assert told.tolist() == pytest.approx([0.4], abs=1e-3)


# Bad input, ledgers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "told"), [(49, True), (50, False), (200, False), (201, True)])
def test_a_public_number_far_from_the_true_one_is_noted(rows: int, told: bool) -> None:
    """The true one is 100, and is not said."""
    notes = privacy_notes(checked_world(scenario("`dpsgd`", 100, **{"rows": rows})))
    found = [note for note in notes if note.startswith(f"privacy.rows is {rows}, more than a factor of two")]
    assert bool(found) == told
    assert all("100" not in note for note in found)


@pytest.mark.parametrize(
    ("name", "privacy", "words"),
    [
        ("`logit_gauss`", {"rows": 100}, "does not belong to privacy mode 'logit_gauss'"),
        ("`proto_gauss`, `public`", {"rows": 100}, "has no effect with provenance public"),
        ("`dpsgd`", {"rows": 0}, "privacy.rows is 0"),
    ],
)
def test_a_public_number_where_it_means_nothing_is_refused(
    name: str, privacy: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as refused:
        scenario(name, **privacy)
    assert words in " ".join(refused.value.problems)


def test_mean_predictions_of_a_trained_head_are_not_public() -> None:
    """Fixed features do not make predictions public: noise on means does not bound how the head moves."""
    described = scenario("`proto_gauss`, `public`").model_copy(
        update={"strategy": from_dict({**SOURCE, "strategy": {"name": "fd"}}).strategy}
    )
    with pytest.raises(InputError, match="the head of model 'scatter' is trained on private rows"):
        checked_world(described)


SOURCE = {"name": "claims", "data": {"partition": {"kind": "iid", "clients": 3}}}


def test_a_ledger_allows_the_weakest_of_its_claims(tmp_path: Path) -> None:
    """First with a public number, then without: from then on a record may be zeroed out, not removed."""
    ledger, event = Ledger(tmp_path), [Event("gauss", "record", 4.0)]
    terms: dict[str, Any] = {"delta": DELTA, "unit": "record", "most": 20.0}
    ledger.reserve(Purpose("run", 1, "train"), event, change="added or removed", **terms)
    assert weakest_change(ledger.entries()) == "added or removed"
    ledger.reserve(Purpose("run", 2, "train"), event, change="zeroed out", **terms)
    assert weakest_change(ledger.entries()) == "zeroed out"
    with pytest.raises(Declined, match="paid for a record zeroed out, which does not bound") as refused:
        ledger.reserve(Purpose("run", 3, "train"), event, change="added or removed", **terms)
    assert refused.value.reason == "ledger" and len(ledger.entries()) == 2
    assert weakest_change([]) == "replaced by any other" == CHANGES[-1]
    assert weakest_change([{"state": "reserved"}]) == "zeroed out"


def test_a_stronger_claim_on_an_old_ledger_is_refused_before_a_run(tmp_path: Path) -> None:
    more: dict[str, Any] = {"ledger": str(tmp_path)}
    Ledger(tmp_path / "1").reserve(
        Purpose("run", 1, "train"),
        [Event("gauss", "record", 4.0)],
        delta=DELTA,
        unit="record",
        change="zeroed out",
        most=20.0,
    )
    checked_world(scenario("`dpsgd`", **more))
    with pytest.raises(InputError, match="holds what was paid for a record zeroed out"):
        checked_world(scenario("`dpsgd` with `rows: N`", **more))


# What public noise tells a server ---------------------------------------------------------------------


def test_the_noise_that_training_leaves_on_a_weight_is_public() -> None:
    """4 steps of 40 rows at rate 0.5, clip 2, noise 1.5: √4 times 0.5 · 1.5 · 2 / 40; Adam's is not known."""
    described: dict[str, Any] = {
        "name": "noise",
        "data": {
            "partition": {"kind": "iid", "clients": 2, "samples_per_client": 40},
            "transfer": {"size": 60},
        },
        "clients": {
            "models": [{"name": "mlp", "width": 4}],
            "local": {"epochs": 4, "batch_size": 40, "optimizer": "sgd", "lr": 0.5},
        },
        "strategy": {"name": "knfu", "noise": "count"},
        "privacy": {
            "mode": "dpsgd",
            "delta": 1e-5,
            "noise_multiplier": 1.5,
            "max_grad_norm": 2,
            "max_epsilon": 99,
        },
    }
    world = checked_world(from_dict(described))
    assert world.noise_on_weights() == pytest.approx({"0": 2 * 0.0375, "1": 2 * 0.0375})
    for changes, words in (
        ({"clients": {**described["clients"], "local": {"optimizer": "adam"}}}, "strategy.noise is count"),
        ({"privacy": {"mode": "none"}}, "strategy.noise is count"),
        ({"strategy": {"name": "knfu", "noise": "count", "epd": "labels"}}, "strategy.noise has no effect"),
    ):
        with pytest.raises(InputError, match=words):
            checked_world(from_dict({**described, **changes}))
