"""Steps of cohorts that are compiled or recorded: the same numbers, refused where they cannot be."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients import stack, trial
from fedkt.engine.clients.cohorts import Plan
from fedkt.engine.clients.stack import Recorded, Way, written
from fedkt.engine.runs.run import simulate
from fedkt.engine.world import world
from fedkt.errors import InputError
from tests.engine.pretended import DEVICE, Accelerator
from tests.engine.test_cohorts import distance, final_tensors
from tests.engine.test_device import Watch, on_cpu, small


def of_client(params: Any, fixed: Any, constants: Any, rows: Any, masks: Any) -> torch.Tensor:
    return (rows["x"] @ params["w"] - rows["y"]) ** 2


Recording = tuple[Counter[str], Callable[[Callable[[], Any]], Any]]


def recorder() -> Recording:
    """Return what stands for CUDA's recorder, and how often it recorded and played."""
    done = Counter[str]()

    def record(run: Callable[[], Any]) -> Any:
        done["recorded"] += 1
        gradients, losses = run()

        def play() -> None:
            done["played"] += 1
            new, again = run()
            losses.copy_(again)
            for name, gradient in gradients.items():
                gradient.copy_(new[name])

        return (gradients, losses), play

    return done, record


def test_a_step_is_the_gradient_of_each_clients_mean_loss_and_is_recorded_once_for_each_shape() -> None:
    done, record = recorder()
    step = Recorded(written(of_client), record)
    # One client, w = 2: losses (1*2-0)^2 = 4 and (3*2-1)^2 = 25; slope (2*2*1 + 2*5*3) / 2 = 17.
    for w, losses, slope in ((2.0, [4.0, 25.0], 17.0), (0.0, [0.0, 1.0], -3.0)):
        rows = {"x": torch.tensor([[[1.0], [3.0]]]), "y": torch.tensor([[0.0, 1.0]])}
        given: Any = {"w": torch.tensor([[w]])}, {}, {}, rows, torch.tensor([[0.5, 0.5]]), []
        gradients, found = step(*given)
        assert found.tolist() == [losses] and gradients["w"].tolist() == [[slope]]
    assert done == {"recorded": 1, "played": 2}
    shorter = {"x": torch.tensor([[[3.0]]]), "y": torch.tensor([[1.0]])}
    gradients, _ = step({"w": torch.tensor([[2.0]])}, {}, {}, shorter, torch.ones(1, 1), [])
    assert gradients["w"].tolist() == [[30.0]] and done["recorded"] == 2


def test_no_more_than_some_shapes_are_recorded() -> None:
    done, record = recorder()
    step = Recorded(written(of_client), record)
    for rows in range(1, 12):
        given = {"x": torch.ones(1, rows, 1), "y": torch.zeros(1, rows)}
        gradients, _ = step({"w": torch.ones(1, 1)}, {}, {}, given, torch.ones(1, rows), [])
        assert gradients["w"].tolist() == [[2.0 * rows]]
    assert done["recorded"] == stack.MOST_SHAPES


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    monkeypatch.setattr(world, "device_of", lambda engine: DEVICE)
    with Accelerator() as opened:
        yield opened


def test_graphs_copy_and_wait_no_more_and_give_the_numbers_of_the_cpu(
    gpu: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, record = recorder()
    monkeypatch.setattr(stack, "on_cuda", record)
    described, watch = small("fedmd", 3, dropout=0.5), Watch(gpu)
    here = on_cpu(described, tmp_path / "here", monkeypatch)
    monkeypatch.setattr(trial, "_way", lambda *_: ("graphs", ""))
    there = simulate(described, out=tmp_path / "there", observer=watch).summary
    assert there["accuracy"] == pytest.approx(here["accuracy"], abs=1e-5)
    assert done["recorded"] <= 2 < done["played"]  # training and digestion
    counts = watch.rounds[-1]
    # Beside those that it has as written one more each of two phases, for masks of dropout.
    assert (counts["copies to"], counts["copies from"], counts["waits"]) == (5, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["torch", "auto"])
def test_compiled_steps_agree_with_those_as_written(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = {"kind": "inline", "cohort": 4}
    simulate(small("knfu", engine=engine), out=tmp_path / "written")
    with caplog.at_level(logging.INFO):
        simulate(small("knfu", engine={**engine, "compile": way}), out=tmp_path / "compiled")
    assert not caplog.records  # that they could not be, and were taken one by one
    one, other = final_tensors(tmp_path / "written"), final_tensors(tmp_path / "compiled")
    assert distance(one, other) < 1e-5


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"off": 1.0, "torch": 0.5, "graphs": 0.4}, "graphs"),
        ({"off": 1.0, "torch": 0.9, "graphs": 0.85}, "off"),  # a gain of less than a quarter
        ({"off": 1.0, "torch": 0.5}, "torch"),
    ],
)
def test_the_trial_takes_the_fastest_way(
    seconds: dict[str, float], chosen: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "there_are", lambda *_: ["torch", "graphs"])

    def timed(run: Any, device: torch.device) -> float:
        if not isinstance(run, partial):
            return 1.0
        return seconds[run.args[0].way]  # one that cannot be raises, and is not taken

    monkeypatch.setattr(trial, "_time", timed)
    made = checked_world(small("fd", engine={"kind": "inline", "cohort": 4, "compile": "auto"}))
    plan = trial.plan(made, trial.units(made, 1), 1.0)
    assert list(plan.ways.values()) == ([] if chosen == "off" else [chosen])
    assert any(trial._NAMES[chosen] in note or "as written" in note for note in plan.notes)
    assert Plan.read(vars(plan)) == plan


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"compile": "graphs"}, "CUDA graphs need a GPU of CUDA and clients train on cpu"),
        ({"compile": "torch", "cohort": "off"}, "engine.cohort is off; leave it out"),
        ({"compile": "auto", "kind": "flower"}, "engine 'flower' has none"),
        ({"compile": "torch"}, "on a CPU; install"),
    ],
)
def test_where_steps_cannot_be_compiled_it_is_refused(
    parts: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    engine = {"kind": "inline", "cohort": "auto", **parts}
    with pytest.raises(InputError, match=said) as refused:
        checked_world(small("fd", engine=engine))
    assert len(refused.value.problems) == 1


def test_private_steps_are_not_compiled() -> None:
    private = {"mode": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-5, "max_epsilon": 1000.0}
    with pytest.raises(InputError, match=r"privacy\.mode dpsgd takes gradients row by row"):
        checked_world(small("knfu", privacy=private, engine={"kind": "inline", "compile": "auto"}))
