"""Estimators as models: fits to probabilities, states without pickle, a run of several kinds, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.models import build
from fedkt.models.estimators.refit import Fitted, probabilities, refit, spread
from fedkt.models.estimators.saving import Unsavable, read, written
from fedkt.models.estimators.sklearn_like import SklearnLike
from fedkt.results.export import export
from fedkt.scenario import load

pytest.importorskip("skops", reason="the extra 'trees' (and 'dev') has what estimators need")
TABLE = InputSpec("tabular", (3,))
ALL = [
    {"name": "sklearn", "estimator": "LogisticRegression"},
    {"name": "sklearn", "estimator": "RandomForestClassifier", "n_estimators": 5},
    {"name": "sklearn", "estimator": "HistGradientBoostingClassifier", "max_iter": 5},
    {"name": "sklearn", "estimator": "KNeighborsClassifier"},
    {"name": "xgboost", "n_estimators": 5},
    {"name": "lightgbm", "n_estimators": 5, "min_child_samples": 2},
]
each = pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.get("estimator", spec["name"]))


def rows(n: int = 60, classes: int = 3) -> tuple[Any, Any]:
    x = np.random.default_rng(0).normal(size=(n, 3))
    return x, np.eye(classes)[(x[:, 0] + x[:, 1] ** 2 > 0.5).astype(int) + (x[:, 2] > 1)]


def estimator(spec: Any, classes: int = 3) -> Any:
    net: Any = build(spec, TABLE, classes, seed=0)
    return net.head.estimator


def test_a_row_with_probabilities_counts_as_rows_with_labels_in_proportion() -> None:
    """At one point x with P(1) = 0.8 a stump says 0.8, whatever the rows' weights in all."""
    stump = estimator({"name": "sklearn", "estimator": "DecisionTreeClassifier"}, classes=2)
    x = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    q = np.array([[0.2, 0.8], [1.0, 0.0]])
    fitted = refit(stump, x, q, np.array([3.0, 0.5]), seed=0)
    said = probabilities(stump, fitted, x, classes=2)
    assert said == pytest.approx(np.array([[0.2, 0.8], [1.0, 0.0]]), abs=2e-6)


def test_a_weight_is_shared_by_rows_of_one_place() -> None:
    """Labels 1, 1, 0 of weight 1 and a teacher's 0.5 of weight 3 at one place: (2 + 1.5) / 6."""
    stump = estimator({"name": "sklearn", "estimator": "DecisionTreeClassifier"}, classes=2)
    q = np.array([[0, 1.0], [0, 1], [1, 0], [0.5, 0.5]])
    fitted = refit(stump, np.zeros((4, 3)), q, np.array([1, 1, 1, 3.0]), seed=0)
    assert probabilities(stump, fitted, np.zeros((1, 3)), 2)[0, 1] == pytest.approx(3.5 / 6)


def test_without_weights_rows_are_drawn_as_often_as_they_count() -> None:
    weights = np.array([1.0, 1.0, 0.25, 0.75, 2.0])
    drawn = np.bincount(spread(weights, np.random.default_rng(1)), minlength=5)
    assert drawn.sum() == 5 and drawn.tolist()[4] == 2 and (np.abs(drawn - weights) < 1).all()
    mean = np.mean(
        [np.bincount(spread(weights, np.random.default_rng(s)), minlength=5) for s in range(2000)], 0
    )
    assert mean == pytest.approx(weights, abs=0.05)


def test_one_class_and_none() -> None:
    forest = estimator(ALL[1])
    fitted = refit(forest, np.zeros((2, 3)), np.array([[0, 1.0, 0]] * 2), np.ones(2), 0)
    assert fitted.model is None
    assert probabilities(forest, fitted, np.zeros((1, 3)), 3)[0].argmax() == 1
    assert probabilities(forest, None, np.zeros((1, 3)), 3).tolist() == [[1 / 3] * 3]
    with pytest.raises(ValueError, match="no row counts"):
        refit(forest, np.zeros((2, 3)), np.zeros((2, 3)), np.ones(2), 0)


@each
def test_the_same_rows_and_seed_give_the_same_bytes_which_read_as_the_same_model(spec: Any) -> None:
    made = estimator(spec)
    x, q = rows()
    one, two = (refit(made, x, q, np.ones(len(x)), seed=7) for _ in range(2))
    first, second = made.write(one.model), made.write(two.model)
    assert {name: part.tobytes() for name, part in first.items()} == {
        name: part.tobytes() for name, part in second.items()
    }
    back = Fitted(one.classes, made.read(first))
    assert np.array_equal(probabilities(made, back, x, 3), probabilities(made, one, x, 3))


@each
def test_a_class_that_a_client_lacks_has_hardly_any_probability(spec: Any) -> None:
    made = estimator(spec)
    x, q = rows()
    fitted = refit(made, x, q[:, [0, 2, 1]] * [1, 1, 0], np.ones(len(x)), seed=0)
    said = probabilities(made, fitted, x, 3)
    assert said.shape == (60, 3) and said[:, 2].max() < 1e-5
    assert said.sum(1) == pytest.approx(np.ones(60))


def test_a_forest_is_written_as_arrays_and_damage_is_seen() -> None:
    from safetensors.numpy import load, save
    from sklearn.ensemble import RandomForestClassifier

    x, q = rows()
    forest = RandomForestClassifier(20, random_state=0).fit(x, q.argmax(1))
    held = written(forest)
    assert len(held["model"]) < 60_000 and len(held["trees"]) > 20 * 57
    assert np.array_equal(read(held).predict_proba(x), forest.predict_proba(x))
    arrays = load(held["trees"].tobytes())
    node = arrays["nodes"].view(
        np.dtype([("left", "<i8"), ("right", "<i8"), ("feature", "<i8"), ("rest", "V33")])
    )
    wrong = (("left", 10**6, "leads nowhere"), ("feature", 3, "a column that is not there"))
    for field, value, said in wrong:
        kept = node[field][0]
        node[field][0] = value
        with pytest.raises(ValueError, match=said):
            read({**held, "trees": np.frombuffer(save(arrays), np.uint8)})
        node[field][0] = kept
    with pytest.raises(ValueError):
        read({**held, "model": held["model"][:-100]})


def test_only_what_is_named_is_written_and_read() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    x, q = rows()
    strange = make_pipeline(FunctionTransformer(json.dumps, validate=False), LogisticRegression())
    with pytest.raises(Unsavable, match=r"json\.dumps"):
        written(strange)
    held = written(LogisticRegression().fit(x, q.argmax(1)))
    evil = held["model"].tobytes().replace(b"LogisticRegression", b"AAAAAAAAAAAAAAAAAA")
    with pytest.raises(ValueError):
        read({**held, "model": np.frombuffer(evil, np.uint8)})


def scenario(models: Any, **more: Any) -> dict[str, Any]:
    return {
        "name": "estimators",
        "data": {
            "dataset": "digits",
            "partition": {"kind": "dirichlet", "alpha": 0.5, "clients": 3, "samples_per_client": 60},
            "transfer": {"from": "train", "size": 50},
        },
        "clients": {"models": models, "local": {"epochs": 1}},
        "strategy": {"name": "fedmd"},
        "rounds": 2,
        "engine": {"kind": "inline"},
        **more,
    }


MIXED = [ALL[1], "mlp", ALL[0]]


def test_a_run_of_several_kinds_is_bit_equal_when_resumed_and_exports(tmp_path: Path) -> None:
    whole = fedkt.simulate(scenario(MIXED), out=tmp_path / "whole")
    half = fedkt.simulate(scenario(MIXED, rounds=1), out=tmp_path / "half")
    fedkt.simulate(scenario(MIXED), out=half.path, resume=True)
    states = [
        {
            file.parent.name: file.read_bytes()
            for file in sorted((run / "checkpoint" / "clients").rglob("*.safetensors"))
        }
        for run in (whole.path, half.path)
    ]
    assert set(states[0]) == {"0", "1", "2"} and states[0] == states[1]
    model = fedkt.load_model(export(whole.path, "0", tmp_path / "model"))
    _, scores = model(torch.rand(5, 1, 8, 8))
    assert scores.shape == (5, 10) and torch.allclose(scores.exp().sum(1), torch.ones(5), atol=1e-5)


def test_pooled_data_and_alone_are_bounds_for_estimators_too() -> None:
    alone, pooled = (
        fedkt.simulate(scenario([ALL[1]]), strategy=name).summary["accuracy"]["global_mean"]
        for name in ("local", "central")
    )
    assert pooled > alone + 0.1


def test_what_cannot_be_is_refused_at_once_and_says_why() -> None:
    def problems(models: Any, **more: Any) -> str:
        with pytest.raises(InputError) as caught:
            checked_world(load(scenario(models, **more)))
        return " ".join(caught.value.problems)

    forest = {"name": "sklearn", "estimator": "RandomForestClassifier"}
    assert "'n_estimators'?" in problems([{**forest, "n_estimater": 3}])
    assert "takes no n_jobs" in problems([{**forest, "n_jobs": 2}])
    assert "must be an int" in problems([{**forest, "n_estimators": "many"}])
    assert "did you mean 'RandomForestClassifier'" in problems([{**forest, "estimator": "RandomForest"}])
    assert "no classifier" in problems([{**forest, "estimator": "LinearRegression"}])
    said = problems([forest], strategy={"name": "fedavg"}, allow=["weights"])
    assert "without weights that could be shared" in said
    assert "features or gradients" in problems([forest], strategy={"name": "fd"})
    assert "only vote" in problems([{"name": "sklearn", "estimator": "LinearSVC"}])
    private = {"mode": "dpsgd", "target_epsilon": 8, "delta": 1e-5, "max_epsilon": 8, "max_grad_norm": 1.0}
    assert "fitted to all rows at once" in problems([forest], privacy=private)
    told = {"models": ["mlp"], "distill": {"weight": 2.0}}
    assert "no model of clients.models is an estimator" in problems(["mlp"], clients=told)
    assert "server_model.model is an estimator" in problems(["mlp"], server_model={"model": forest})


class Centroid:
    """In the manner of scikit-learn, with nothing of it: votes by nothing but distances to class means."""

    def fit(self, X: Any, y: Any, sample_weight: Any) -> "Centroid":  # noqa: N803
        w = sample_weight[:, None] * np.eye(y.max() + 1)[y]
        self.means = (w.T @ X) / w.sum(0)[:, None]
        return self

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        near = np.exp(-((X[:, None] - self.means) ** 2).sum(-1))
        return near / near.sum(1, keepdims=True)


def centroid(input: Any, classes: int) -> Centroid:
    return Centroid()


class Same:
    """Votes for the first class, without a word about the classes that there are."""

    def fit(self, X: Any, y: Any) -> "Same":  # noqa: N803
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.zeros(len(X))


def same(input: Any, classes: int) -> Same:
    return Same()


def test_what_only_votes_is_told_so_whatever_it_votes_for() -> None:
    with pytest.raises(InputError, match="has no predict_proba and so can only vote"):
        checked_world(load(scenario([f"{__name__}:same"])))
    voter, x = SklearnLike(Same(), "same"), np.zeros((6, 2))
    fitted = refit(voter, x, np.eye(3)[np.arange(6) % 3], np.ones(6), 0)
    assert probabilities(voter, fitted, x, 3).round(3).tolist() == [[1, 0, 0]] * 6


class Lambda(Centroid):
    def fit(self, X: Any, y: Any, sample_weight: Any) -> "Lambda":  # noqa: N803
        super().fit(X, y, sample_weight)
        self.kernel = lambda x: x
        return self


def unsavable(input: Any, classes: int) -> Lambda:
    return Lambda()


def test_anything_with_fit_and_predict_proba_takes_part() -> None:
    ran = fedkt.simulate(scenario([f"{__name__}:centroid"]))
    assert ran.summary["accuracy"]["global_mean"] > 0.5
    with pytest.raises(InputError, match="without pickle"):
        build(f"{__name__}:unsavable", TABLE, 3, 0)
