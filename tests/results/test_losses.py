"""What clients minimised: computed by hand, told in every place, and nothing of it in a private reply."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import fedkt
from fedkt.client import Fit, Steps, classification
from fedkt.client.training import Losses, fit
from fedkt.engine.loop.lines import losses_told
from fedkt.knowledge.protocol import Reply
from fedkt.privacy.dpsgd import Dpsgd, fit_privately
from fedkt.results import metrics
from fedkt.results.folder import read_rows
from fedkt.results.progress import Progress
from fedkt.results.trackers import figures
from fedkt.scenario import from_dict
from fedkt.strategy.rounds.receiving import Outcome

LN2, LN4 = 0.693147, 1.386294


class Says(nn.Module):
    """Its logits are its inputs plus a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + self.shift


def phase(lr: float, batch: int = 2) -> Fit:
    """Four rows that are undecided between two classes, and one that says 3 to 1 for the wrong one."""
    x = torch.zeros(5, 2)
    x[4, 0] = 1.098612
    rows = {"x": x, "y": torch.ones(5, dtype=torch.int64)}
    return Fit("train", rows, classification, Steps(1, batch, "sgd", lr), private=True)


def test_a_short_batch_counts_by_its_rows() -> None:
    """Batches of 2, 2 and 1 rows: (4 ln 2 + ln 4) / 5 whoever is in which of them."""
    told = Losses(phase(0.0))
    fit(Says(), phase(0.0), {}, seed=0, client="0", round_=1, losses=told)
    assert told.means().tolist() == pytest.approx([(4 * LN2 + LN4) / 5], abs=1e-5)


def test_a_loss_is_that_before_the_step() -> None:
    """One batch of all rows, and a step that changes the model: what is told is what was minimised."""
    told, net = Losses(phase(1.0, 5)), Says()
    fit(net, phase(1.0, 5), {}, seed=0, client="0", round_=1, losses=told)
    assert net.shift[1] > 0.1
    assert told.means().tolist() == pytest.approx([(4 * LN2 + LN4) / 5], abs=1e-5)


def test_private_training_knows_its_loss_too() -> None:
    """At rate 1 of sampling every row is in the only batch; the clip does not touch the loss."""
    told, what = Losses(phase(0.0, 5)), phase(0.0, 5)
    fit_privately(Says(), what, {}, Dpsgd(1.0, 0.1), seed=0, client="0", round_=1, losses=told)
    assert told.means().tolist() == pytest.approx([(4 * LN2 + LN4) / 5], abs=1e-5)


def test_losses_are_taken_out_of_a_replys_metrics() -> None:
    trained = {"a": Outcome("a", metrics={"loss_train": 0.5, "epsilon": 1.0}), "b": Outcome("b")}
    evaluated = {"a": Outcome("a", metrics={"loss_distill": 0.25, "global": 0.9})}
    assert losses_told(trained, evaluated) == {"a": {"train": 0.5, "distill": 0.25}, "b": {}}
    assert trained["a"].metrics == {"epsilon": 1.0} and evaluated["a"].metrics == {"global": 0.9}


def test_means_are_over_those_who_have_a_loss_and_what_is_not_finite_is_none() -> None:
    assert metrics.mean_losses([{"train": 1.0}, {"train": 2.0, "distill": 0.5}, {}]) == {
        "train": 1.5,
        "distill": 0.5,
    }
    assert metrics.mean_losses([]) == {"train": None, "distill": None}
    assert metrics.losses_of("train", [0.5, float("inf")]) == {"train": 0.5}
    assert metrics.losses_of("digest", [0.5]) == {"distill": 0.5}
    assert metrics.losses_of("prepare", [0.5]) == {}


def scenario(**more: Any) -> Any:
    return from_dict(
        {
            "name": "small",
            "data": {"partition": {"clients": 3, "samples_per_client": 20}, "transfer": {"size": 30}},
            "clients": {"local": {"epochs": 1}, "distill": {"epochs": 1}},
            "strategy": {"name": "knfu"},
            "rounds": 3,
            "engine": {"kind": "inline", "cohort": "off"},
            **more,
        }
    )


def test_a_run_has_a_line_of_losses_for_each_client_and_round(tmp_path: Path) -> None:
    fedkt.simulate(scenario(evaluate={"every": 3}), out=tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "losses.jsonl")
    # Also in rounds in which nobody is measured, and of nobody's accuracy.
    assert [(row["round"], row["client"]) for row in rows] == [(r, c) for r in (1, 2, 3) for c in range(3)]
    assert all(set(row) == {"round", "client", "train", "distill"} for row in rows)
    for row in read_rows(tmp_path / "run" / "rounds.jsonl"):
        mine = [its for its in rows if its["round"] == row["round"]]
        for part in metrics.PARTS:
            assert row["loss"][part] == pytest.approx(sum(its[part] for its in mine) / 3)
    # Ten classes: training begins about ln 10 = 2.30 and falls.
    train = [row["loss"]["train"] for row in read_rows(tmp_path / "run" / "rounds.jsonl")]
    assert 1.5 < train[0] < 3.0 and train[2] < train[0]
    assert not {"loss_train", "loss_distill"} & set(read_rows(tmp_path / "run" / "clients.jsonl")[0])


def test_who_attacks_counts_in_no_mean(tmp_path: Path) -> None:
    hostile = {"clients": ["1"], "kind": "label-flip"}
    fedkt.simulate(scenario(attacks=[hostile], rounds=1), out=tmp_path / "run")
    rows = {row["client"]: row for row in read_rows(tmp_path / "run" / "losses.jsonl")}
    (told,) = read_rows(tmp_path / "run" / "rounds.jsonl")
    assert told["loss"]["train"] == pytest.approx((rows[0]["train"] + rows[2]["train"]) / 2)


@pytest.mark.parametrize("mode", ["dpsgd", "central_gauss"])
def test_no_loss_leaves_a_client_in_a_private_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A simulation reads it beside the protocol, as it does accuracy."""
    sent: list[set[str]] = []
    pack = Reply.pack

    def noting(reply: Reply, expected: Any, *how: Any) -> Any:
        sent.append(set(reply.metrics))
        return pack(reply, expected, *how)

    monkeypatch.setattr(Reply, "pack", noting)
    private = {"mode": mode, "delta": 1e-3, "target_epsilon": 8.0}
    part = {"quorum": 3}
    made = scenario(privacy=private, strategy={"name": "fedmd"}, participation=part, rounds=2)
    fedkt.simulate(made, out=tmp_path / "run")
    assert len(sent) == 12 and set.union(*sent) <= {"epsilon"}
    rows = read_rows(tmp_path / "run" / "losses.jsonl")
    assert len(rows) == 6 and all({"train", "distill"} <= set(row) for row in rows)
    kept = json.loads((tmp_path / "run/checkpoint/clients/0/observed.json").read_text())
    assert kept["round"] == 2 and {"loss_train", "loss_distill", "global"} <= set(kept["metrics"])


ROW = {
    "round": 1,
    "status": "fused",
    "accuracy": None,
    "loss": {"train": 0.51234, "distill": None},
    "bytes": {"up": 1, "down": 1},
    "replies": {"accepted": 1},
    "wall_s": 1.0,
}


def test_the_terminal_and_the_trackers_tell_the_means() -> None:
    out = io.StringIO()
    shown = Progress(Console(file=out, width=200))
    shown.started({"name": "a", "strategy": "b", "engine": "inline", "clients": 1, "rounds": 1, "round": 0})
    shown.round_done(ROW, [])
    assert "loss train 0.512  up" in out.getvalue()
    assert figures(ROW)["loss/train"] == 0.51234 and "loss/distill" not in figures(ROW)
