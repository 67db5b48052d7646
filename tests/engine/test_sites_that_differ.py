"""Sites with labels of their own: what they are called, what each answers for, learns and is spared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt import data, registry, scenario
from fedkt.client.lessons.knowing import SHUT, taken
from fedkt.data.own import Sources, build_own
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.results.export import export
from fedkt.strategy.fusing.knowers import among_knowers

NAMES = ("cold", "flu", "mould", "well")
HELD = {"a": (0, 1, 3), "b": (1, 2, 3), "c": (0, 2, 3)}
OWN = {"b": {"Grippe": "flu", "Pilz": "mould", "gesund": "well"}}
FITTING = [name for name in registry.names("strategies") if registry.find("strategies", name).fuses_by_class]


def rows(classes: tuple[int, ...], n: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    y = np.array(classes)[np.arange(n) % len(classes)]
    return (rng.normal(0, 0.6, (n, 4)) + 2 * np.eye(4)[y]).astype(np.float32), y


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each site, by its own names, and 90 rows of all classes that all can see."""
    found = tmp_path_factory.mktemp("sites")
    for seed, (site, classes) in enumerate(HELD.items()):
        x, y = rows(classes, 60, seed)
        called = {common: own for own, common in OWN.get(site, {}).items()}
        labels = [called.get(NAMES[k], NAMES[k]) for k in y]
        np.savez(found / f"{site}.npz", x_train=x, y_train=labels)
    x, y = rows((0, 1, 2, 3), 88, 9)
    np.savez(found / "common.npz", x_train=x, y_train=y)
    return found


def described(**more: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"dataset": {site: f"npz:{site}.npz" for site in HELD}, "labels": "per-site"}
    about |= {
        "label_maps": OWN,
        "partition": {"kind": "domain"},
        "transfer": {"from": "npz:common.npz", "size": 80},
    }
    return {
        "name": "sites",
        "data": about | more.pop("data", {}),
        "clients": {"models": "tabular", "local": {"epochs": 3, "lr": 0.01}},
        "strategy": {"name": "dwc"},
        "rounds": 2,
        "engine": {"kind": "inline"},
        **more,
    }


def settings_of(name: str) -> dict[str, Any]:
    return {"name": name, **({"average": "probabilities"} if name == "fedmd" else {})}


def test_sites_call_classes_by_names_of_their_own(folder: Path) -> None:
    made = data.build(scenario.load(described()), folder)
    assert made.label_names == NAMES
    for shard in made.shards:
        assert set(np.flatnonzero(shard.share)) == set(HELD[shard.id])
    own = build_own(
        "b",
        Sources(folder, "npz:b.npz", transfer="npz:common.npz", classes=4),
        scenario.load(described(data={"classes": list(NAMES)})),
    )
    assert own.label_names == NAMES and set(np.flatnonzero(own.shards[0].share)) == set(HELD["b"])


def test_each_class_is_averaged_over_those_who_know_it() -> None:
    a, b = [[0.6, 0.4, 0.0]], [[0.0, 0.3, 0.7]]
    both = torch.tensor([a, b])
    np.testing.assert_allclose(among_knowers(both)[0], np.array([0.6, 0.35, 0.7]) / 1.65, rtol=1e-6)
    # By weights 3 and 1: (0.6, (3 · 0.4 + 0.3) / 4, 0.7), then divided by its sum.
    weighed = among_knowers(both, torch.tensor([3.0, 1.0]))[0]
    np.testing.assert_allclose(weighed, np.array([0.6, 0.375, 0.7]) / 1.675, rtol=1e-6)
    # Who all know all are averaged as ever.
    known = torch.rand(3, 5, 4).softmax(-1)
    torch.testing.assert_close(among_knowers(known), known.mean(0))


def test_what_is_of_classes_that_a_site_does_not_know_is_dropped_and_counted() -> None:
    values = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.1, 0.6], [0.0, 1.0, 0.0]])
    found = taken({"values": values}, torch.tensor([0.0, 0.0, SHUT]), learn_others=False)
    torch.testing.assert_close(found.teacher["values"], torch.tensor([[0.625, 0.375, 0.0], [0.0, 1.0, 0.0]]))
    assert found.teacher["rows"].tolist() == [0, 2] and found.rows == 1
    assert found.mass == pytest.approx(0.8 / 3)
    learned = taken({"values": values}, torch.tensor([0.0, 0.0, SHUT]), learn_others=True)
    assert learned.closed.tolist() == [0, 0, 0] and learned.rows == 0 and learned.mass == 0


@pytest.mark.parametrize("learn_others", [False, True])
@pytest.mark.parametrize("name", FITTING)
def test_a_site_answers_for_what_it_knows_and_learns_what_it_is_to(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, learn_others: bool
) -> None:
    """Contracts of all strategies that fit: columns of others' classes are 0 in what is sent and, without
    learn_others, in what models say; the same seed gives the same bits."""
    sent: list[torch.Tensor] = []
    kind = registry.find("strategies", name)
    fuse = kind.fuse

    def look(self: Any, contributions: Any) -> Any:
        sent.append(contributions.values)
        fused = fuse(self, contributions)
        for teacher in fused.teachers:
            torch.testing.assert_close(teacher["values"].sum(-1), torch.ones(80), rtol=1e-4, atol=1e-4)
            assert (teacher["values"].amax(0) > 0.2).all()  # of each class some row is told
        return fused

    if name != "local":
        monkeypatch.setattr(kind, "fuse", look)
    asked = described(strategy=settings_of(name), data={"learn_others": learn_others})
    runs = [fedkt.simulate(asked, out=tmp_path / str(i), data_dir=folder) for i in range(2)]
    states = [sorted((run.path / "checkpoint/clients").rglob("*.safetensors")) for run in runs]
    assert [file.read_bytes() for file in states[0]] == [file.read_bytes() for file in states[1]]
    for values in sent:
        for answers, classes in zip(values, HELD.values(), strict=True):
            others = [k for k in range(4) if k not in classes]
            assert not answers[:, others].any() and (answers[:, list(classes)] > 0).any(0).all()
    model = fedkt.load_model(export(runs[0].path, "a", tmp_path / "model"))
    x, _ = rows((2,), 30, 5)
    assert model.labels == list(NAMES)
    _, logits = model(torch.from_numpy(x))
    called_mould = float((logits.argmax(-1) == 2).float().mean())
    if learn_others and name != "local":
        # FedMD's absolute error of probabilities is slow to move from a certain answer.
        assert called_mould > 0.5 or name == "fedmd"  # which it never saw
        assert logits[:, 2].min() > SHUT / 2
    else:
        assert called_mould == 0 and not logits.softmax(-1)[:, 2].any()


def test_what_was_dropped_is_in_the_runs_lines(folder: Path, tmp_path: Path) -> None:
    run = fedkt.simulate(described(), out=tmp_path / "run", data_dir=folder)
    lines = [json.loads(line) for line in (run.path / "clients.jsonl").read_text().splitlines()]
    for line in lines:
        # A quarter of the transfer rows are of the class that the site lacks.
        assert 12 <= line["dropped_rows"] <= 28 and 0.15 < line["dropped_mass"] < 0.35
    told = fedkt.simulate(described(data={"learn_others": True}), out=tmp_path / "all", data_dir=folder)
    gained = told.summary["accuracy"]["global_mean"] - run.summary["accuracy"]["global_mean"]
    assert gained > 0.1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "strategy": (
        {"strategy": {"name": "fd"}},
        "strategy 'fd' does not average each class over those who know it",
    ),
    "logits": ({"strategy": {"name": "fedmd"}}, "strategy 'fedmd' exchanges logits as it is set"),
    "energy": ({"strategy": {"name": "dwc", "weights": "energy"}}, "'dwc' exchanges logits as it is set"),
    "align": ({"strategy": {"name": "dsfl", "align": {}}}, "leave strategy.align out"),
    "robust": ({"robust": {"centre": "median"}}, "which robust fusion does not take"),
    "votes": (
        {"strategy": {"name": "dsfl"}, "privacy": {"mode": "vote_gnmax", "delta": 1e-5, "target_epsilon": 8}},
        "answers for follows from its rows, which privacy mode 'vote_gnmax' does not pay for",
    ),
    "unknown name": (
        {"data": {"label_maps": {"b": {"Husten": "cold"}}}},
        "label_maps.b names 'Husten', which no row",
    ),
    "unknown site": (
        {"data": {"label_maps": {"d": {"x": "cold"}}}},
        "names 'd', which is no site of data.dataset",
    ),
    "not per site": (
        {"data": {"labels": None, "label_maps": OWN}},
        "is given, but data.labels is not per-site",
    ),
    "a map to no class": (
        {"data": {"classes": ["cold", "flu", "well", "mould"], "label_maps": {"b": {"Grippe": "fluu"}}}},
        "data.label_maps.b brings 'Grippe' to 'fluu', but data.classes is cold, flu, well, mould",
    ),
    "a label without a map": (
        {"data": {"classes": ["cold", "flu", "well", "mould"], "label_maps": {"b": {"Grippe": "flu"}}}},
        "at 'b', which data.label_maps does not map",
    ),
    "a class beyond": (
        {"data": {"classes": ["flu", "well"]}},
        "data.classes is flu, well; each label must become one of them",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_sentence(folder: Path, case: str) -> None:
    change, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        checked_world(scenario.load(described(**change)), folder)
    assert words in str(caught.value)
