"""The path of an accelerator, on one that is pretended: no operation mixes devices, copies are counted."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedkt import registry
from fedkt import scenario as scenarios
from fedkt.client.placing import fetched, placed
from fedkt.engine.runs.run import simulate
from fedkt.engine.world import device, world
from fedkt.errors import InputError
from fedkt.results.observer import Silent
from fedkt.scenario import Engine, Scenario
from tests.engine.pretended import DEVICE, Accelerator, There

# By strategy: copies to the device in a round of a cohort, and those back that are not a state's way to disk.
COUNTS = {
    **dict.fromkeys(("fedmd", "dsfl", "knfu", "ktpfl", "comet", "cfd"), (3, 2)),
    **dict.fromkeys(("fd", "fedproto", "fedtgp", "fedavg", "fedprox", "feddf", "fedet"), (2, 2)),
    "fedgkt": (2, 2),
    "local": (1, 2),
    "fedhkd": (2, 2),
    "fedka": (3, 2),
}
QUICK = ("fedmd", "knfu", "fd")
BY_CLIENT = {"fedgen": (6, 2, 2), "central": (4, 4, 4)}
"""Copies to the device, back, and waits in a round of 4 clients, where some are each client's: FedGen's noise
goes there with each, and clients of central, who do not train, are cohorts of one."""


def small(strategy: str, clients: int = 4, epochs: int = 1, dropout: float = 0.0, **parts: Any) -> Scenario:
    distils = "steps" in registry.find("strategies", strategy).reads_distill
    described = {
        "name": "device",
        "data": {
            "dataset": "digits",
            "partition": {"kind": "iid", "clients": clients, "samples_per_client": 40},
            "transfer": {"from": "train", "size": 60},
            "public": {"from": "train", "size": 40},
        },
        "clients": {
            "models": [{"name": "mlp", "width": 16, "dropout": dropout}],
            "local": {"epochs": epochs, "batch_size": 20},
            **({"distill": {"epochs": epochs, "batch_size": 30}} if distils else {}),
        },
        "strategy": {"name": strategy},
        "rounds": 2,
        "allow": ["weights", "features"],
        "engine": {"kind": "inline", "cohort": clients},
    }
    return scenarios.load(described | parts, several=True)


class Watch(Silent):
    """Notes what happened on the accelerator in each round."""

    def __init__(self, gpu: Accelerator) -> None:
        self.gpu, self.rounds, self._before = gpu, list[Counter[str]](), Counter[str]()

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        now = Counter(self.gpu.counts)
        self.rounds.append(now - self._before)
        self._before = now


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    monkeypatch.setattr(world, "device_of", lambda engine: DEVICE)
    with Accelerator() as opened:
        yield opened


def on_cpu(described: Scenario, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with monkeypatch.context() as patch:
        patch.setattr(world, "device_of", lambda engine: torch.device("cpu"))
        return simulate(described, out=out).summary


NAMES = [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in (*COUNTS, *BY_CLIENT)]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_mixes_no_devices_and_gives_the_numbers_of_the_cpu(
    name: str, gpu: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, watch = small(name), Watch(gpu)
    there = simulate(described, out=tmp_path / "there", observer=watch).summary
    here = on_cpu(described, tmp_path / "here", monkeypatch)
    assert there["replies"] == here["replies"] and there["bytes"] == here["bytes"]
    assert there["accuracy"] == pytest.approx(here["accuracy"], abs=1e-5)
    if name in COUNTS:
        # From the second round on; in the first, data and initial weights go there.
        to, back = COUNTS[name]
        for counts in watch.rounds[1:]:
            assert counts["copies to"] <= to <= 4
            assert counts["copies from"] == counts["waits"] <= back <= 2
    if name in BY_CLIENT:
        found = watch.rounds[-1]
        assert tuple(found[k] for k in ("copies to", "copies from", "waits")) == BY_CLIENT[name]
    if name in COUNTS:
        # The states of all clients go to disk by a thread, in one copy a round.
        assert gpu.counts["copies from aside"] == gpu.counts["waits aside"] == described.rounds


def test_copies_depend_neither_on_clients_nor_on_steps(gpu: Accelerator, tmp_path: Path) -> None:
    found = []
    for number, (clients, epochs) in enumerate([(3, 1), (6, 1), (3, 2)]):
        watch = Watch(gpu)
        simulate(small("knfu", clients, epochs), out=tmp_path / str(number), observer=watch)
        found.append({k: watch.rounds[-1][k] for k in ("copies to", "copies from", "waits")})
    assert found == [{"copies to": 3, "copies from": 2, "waits": 2}] * 3


@pytest.mark.parametrize(("cohort", "to", "back"), [(3, 4, 8), ("off", 12, 12)])
def test_noise_arrives_in_one_copy(cohort: Any, to: int, back: int, gpu: Accelerator, tmp_path: Path) -> None:
    private = {"mode": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-5, "max_epsilon": 1e6}
    engine = {"kind": "inline", "cohort": cohort}
    found = []
    for epochs in (1, 3):
        watch = Watch(gpu)
        described = small("knfu", 3, epochs, privacy=private, engine=engine)
        simulate(described, out=tmp_path / str(epochs), observer=watch)
        found.append({k: watch.rounds[-1][k] for k in ("copies to", "copies from", "waits")})
    # Of what comes back 2 are of each client: private states are on disk before anything is answered.
    assert found == [{"copies to": to, "copies from": back, "waits": back}] * 2


def test_masks_of_dropout_arrive_in_one_copy_and_are_those_of_the_cpu(
    gpu: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for epochs in (1, 2):
        watch = Watch(gpu)
        described = small("local", 3, epochs, dropout=0.5)
        there = simulate(described, out=tmp_path / f"there-{epochs}", observer=watch).summary
        here = on_cpu(described, tmp_path / f"here-{epochs}", monkeypatch)
        assert there["accuracy"] == pytest.approx(here["accuracy"], abs=1e-5)
        found.append(watch.rounds[-1]["copies to"])
    assert found == [2, 2]  # which rows each step takes, and the masks


def test_kernels_of_a_step_do_not_depend_on_clients(gpu: Accelerator, tmp_path: Path) -> None:
    """Putting clients' states together and taking them apart costs some each; training costs none."""
    found = {}
    for clients in (3, 6):
        for epochs in (1, 2):
            watch = Watch(gpu)
            out = tmp_path / f"{clients}-{epochs}"
            simulate(small("local", clients, epochs), out=out, observer=watch)
            found[clients, epochs] = watch.rounds[-1]["kernels"]
    assert found[6, 2] - found[6, 1] == found[3, 2] - found[3, 1] > 0


def test_one_by_one_and_private_training_mix_no_devices(gpu: Accelerator, tmp_path: Path) -> None:
    alone = small("knfu", engine={"kind": "inline", "cohort": "off"})
    assert simulate(alone, out=tmp_path / "alone").summary["replies"]["accepted"] == 8
    private = {"mode": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-5, "max_epsilon": 1000.0}
    done = simulate(small("knfu", privacy=private), out=tmp_path / "private").summary
    assert done["replies"]["accepted"] == 8


def test_a_run_resumes_with_states_from_disk(gpu: Accelerator, tmp_path: Path) -> None:
    """What a store wrote from the device is what it loads to it again."""
    whole = simulate(small("knfu"), out=tmp_path / "whole").summary
    with pytest.raises(KeyboardInterrupt):
        simulate(small("knfu"), out=tmp_path / "broken", observer=Stop())
    resumed = simulate(small("knfu"), out=tmp_path / "broken", resume=True).summary
    assert resumed["accuracy"] == whole["accuracy"]


class Stop(Silent):
    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        if row["round"] == 1:
            raise KeyboardInterrupt


def test_many_tensors_move_in_one_copy() -> None:
    parts = [
        {"a": torch.arange(3), "b": torch.tensor([[1.5, 2.5]])},
        {"c": torch.tensor(True), "d": torch.zeros(0), "e": torch.tensor([7], dtype=torch.int16)},
    ]
    with Accelerator() as gpu:
        there = placed(parts, DEVICE)
        assert gpu.counts["copies to"] == 1
        assert all(isinstance(t, There) for part in there for t in part.values())
        assert placed(there, DEVICE)[0]["a"] is not None and gpu.counts["copies to"] == 1
        back = fetched(there)
        assert gpu.counts["copies from"] == gpu.counts["waits"] == 1
    for sent, got in zip(parts, back, strict=True):
        assert list(got) == list(sent)
        for name, tensor in sent.items():
            assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor)


def test_a_mistake_would_be_seen() -> None:
    with Accelerator() as gpu:
        there = torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="operands of two devices"):
            there + torch.ones(3)
        assert float(there.sum()) == 3.0
        assert gpu.counts == {"copies to": 1, "bytes to": 12, "kernels": 1, "waits": 1}


# What engine.device asks for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "here", "said"),
    [
        ({"device": "mps"}, None, "engine.device is mps, but this machine lacks it"),
        ({"device": "xpu"}, "cuda", "this machine lacks it (it has cuda)"),
        ({"device": "cpu", "gpus": 1.0}, "cuda", "leave one of them out"),
        ({"device": "cuda", "kind": "ray"}, "cuda", "such as 0.25"),
        ({"gpus": 1.0}, None, "this machine has 0"),
        ({"gpus": 1.0, "kind": "processes"}, "cuda", "gpus or device asks for more; write ray"),
    ],
)
def test_a_device_that_cannot_be_is_refused(
    engine: dict[str, Any], here: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: here is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: here and torch.device(here))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    (problem,) = device.device_problems(Engine(**engine), workers=1)
    assert said in problem


def test_auto_is_the_accelerator_only_where_gpus_ask_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    assert device.device_of(Engine()).type == "cpu"
    assert device.device_of(Engine(gpus=0.5)).type == "xpu"
    assert device.device_of(Engine(device="mps")).type == "mps"


def test_doubles_are_refused_on_apples_gpus() -> None:
    module = torch.nn.Linear(1, 1).double()
    assert "float64" in (device.model_problem(module, torch.device("mps")) or "")
    assert device.model_problem(module, torch.device("cuda")) is None
    assert device.model_problem(module.float(), torch.device("mps")) is None


def test_sparse_gradients_are_refused_which_fused_optimisers_do_not_take() -> None:
    words = torch.nn.Sequential(torch.nn.EmbeddingBag(5, 2, sparse=True), torch.nn.Linear(2, 2))
    said = device.model_problem(words, torch.device("cpu"))
    assert said is not None and said.startswith("its layer 0 makes sparse gradients")
    assert device.model_problem(torch.nn.Embedding(5, 2), torch.device("cpu")) is None


def test_the_sentence_of_a_run() -> None:
    described = small("knfu", engine={"kind": "inline", "device": "mps"})
    with pytest.raises(InputError, match="write auto or cpu") as ended:
        simulate(described)
    assert len(ended.value.problems) == 1
    assert json.loads(json.dumps(scenarios.to_dict(described)))["engine"]["device"] == "mps"
