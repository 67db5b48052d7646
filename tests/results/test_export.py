"""An exported model on raw rows: what the run measured, for every kind of data, and no data needed for it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import fedkt
from fedkt.errors import InputError
from fedkt.files import read_tensors, write_tensors
from fedkt.results.export import export
from fedkt.results.folder import read_rows
from tests import parties

SMALL: dict[str, Any] = {
    "name": "small",
    "clients": {"models": ["mlp"], "local": {"epochs": 4, "lr": 0.01}},
    "strategy": {"name": "fd"},
    "rounds": 1,
    "engine": {"kind": "inline"},
}


def save(folder: Path, **arrays: Any) -> None:
    np.savez(folder / "rows.npz", **arrays)


def run(folder: Path, data: dict[str, Any], **more: Any) -> Path:
    """Run two clients on the data and forget the data; return the folder of client 1's exported model."""
    made = {"dataset": "npz:rows.npz", "partition": {"kind": "iid", "clients": 2}} | data
    fedkt.simulate({**SMALL, **more, "data": made}, out=folder / "run", data_dir=folder)
    for file in folder.glob("*.npz"):
        file.unlink()
    return export(folder / "run", "1", folder / "model")


def told(folder: Path) -> float:
    """Return what the run measured of client 1 on the test rows."""
    (row,) = (row for row in read_rows(folder / "run" / "clients.jsonl") if row["client"] == 1)
    found: float = row["global"]
    return found


def hit(folder: Path, rows: Any, y: Any) -> float:
    """Return the accuracy of the exported model on raw rows."""
    _, scores = fedkt.load_model(folder / "model")(rows)
    return float((scores.argmax(1).numpy() == np.asarray(y)).mean())


def a_table() -> tuple[Any, Any]:
    """Return rows [200, 4] of 3 classes in units of their own, one in eleven values missing."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = (rng.normal(0, 0.6, (200, 4)) + 2 * np.eye(3, 4)[y]) * [1, 100, 1e4, 1] + [0, 0, 5e4, 7]
    x.flat[::11] = np.nan
    return x.astype(np.float32), y


@pytest.mark.parametrize(("missing", "standardise"), [("mean", True), ("median", False), ("zero", True)])
def test_a_table_with_holes_in_units_of_its_own(tmp_path: Path, missing: str, standardise: bool) -> None:
    x, y = a_table()
    save(tmp_path, x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    run(
        tmp_path,
        {"missing": missing, "standardise": standardise},
        clients={"models": ["tabular"], "local": {"epochs": 8, "lr": 0.01}},
    )
    assert hit(tmp_path, x[150:], y[150:]) == pytest.approx(told(tmp_path))
    assert hit(tmp_path, torch.from_numpy(x[150:]), y[150:]) == pytest.approx(told(tmp_path))
    assert hit(tmp_path, x[150:].astype(float).tolist(), y[150:]) == pytest.approx(told(tmp_path))
    if standardise and missing != "zero":
        assert told(tmp_path) > 0.6  # far above a third: the scales are what matters here


def test_the_statistics_are_those_of_the_client_s_own_rows(tmp_path: Path) -> None:
    """By hand: of 1, 3, 5 and a hole the mean is 3; the deviation of 1, 3, 5, 3 is the root of 2."""
    near = np.array([[1, 0], [3, 1], [5, 0], [np.nan, 1]], np.float32)
    far = near * 10
    save(
        tmp_path,
        x_a_train=near,
        y_a_train=[0, 1, 0, 1],
        x_b_train=far,
        y_b_train=[0, 1, 0, 1],
        x_a_test=near,
        y_a_test=[0, 1, 0, 1],
        x_b_test=far,
        y_b_test=[0, 1, 0, 1],
    )
    data = {
        "dataset": {"a": "npz:rows.npz#a", "b": "npz:rows.npz#b"},
        "partition": {"kind": "domain"},
        "missing": "mean",
        "standardise": True,
    }
    made = {**SMALL, "clients": {"models": ["tabular"]}, "data": data}
    fedkt.simulate(made, out=tmp_path / "run", data_dir=tmp_path)
    for name, size in (("a", 1.0), ("b", 10.0)):
        folder = export(tmp_path / "run", name, tmp_path / name)
        held = json.loads((folder / "model.json").read_text())["statistics"]
        assert held["fill"] == [3 * size, pytest.approx(0.5 * size)]
        assert held["shift"] == [3 * size, pytest.approx(0.5 * size)]
        assert held["scale"] == pytest.approx([2**0.5 * size, 0.5 * size])
        rows = fedkt.load_model(folder).prepare([[5 * size, 0], [None, size]])
        assert rows.tolist() == [[pytest.approx(2**0.5), -1.0], [0.0, 1.0]]


def test_pixels_sizes_and_constants_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = rng.integers(0, 120, (120, 12, 12, 3)).astype(np.uint8) + (100 * y[:, None, None, None]).astype(
        np.uint8
    )
    save(tmp_path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    data = {"image": {"size": 6, "channels": 1}, "normalise": {"mean": [0.4], "std": [0.2]}}
    run(tmp_path, data)
    model = fedkt.load_model(tmp_path / "model")
    # White is 1 in [0, 1], and (1 - 0.4) / 0.2 = 3; black is (0 - 0.4) / 0.2 = -2. Channels last or first.
    white = np.full((1, 12, 12, 3), 255, np.uint8)
    assert model.prepare(white).shape == (1, 1, 6, 6)
    assert torch.allclose(model.prepare(white), torch.tensor(3.0), atol=1e-5)
    assert torch.allclose(model.prepare(torch.zeros(2, 3, 12, 12)), torch.tensor(-2.0), atol=1e-5)
    assert hit(tmp_path, x[80:], y[80:]) == pytest.approx(told(tmp_path))
    assert told(tmp_path) > 0.9


def test_one_dark_image_is_no_other_kind_of_image(tmp_path: Path) -> None:
    """Pixels of 0 and 1 are 1/255 where the run's were divided by 255, whatever one image holds."""
    x = np.arange(2 * 8 * 8 * 8, dtype=np.uint16).reshape(16, 8, 8).clip(0, 255).astype(np.uint8)
    save(tmp_path, x_train=x, y_train=np.arange(16) % 2, x_test=x, y_test=np.arange(16) % 2)
    run(tmp_path, {})
    model = fedkt.load_model(tmp_path / "model")
    assert model.prepare(np.ones((1, 8, 8), np.uint8)).max().item() == pytest.approx(1 / 255)
    with pytest.raises(InputError, match=r"shape \[1, 9, 9\] each, but the model takes \[1, 8, 8\]"):
        model(np.ones((1, 9, 9), np.uint8))


def test_images_of_domains_of_different_sizes(tmp_path: Path) -> None:
    """Domains are joined at whole grey levels, so rows as they are have to be rounded likewise."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, side in (("a", 8), ("b", 11)):
        arrays[f"x_{name}"] = rng.integers(0, 256, (30, side, side)).astype(np.uint8)
        arrays[f"y_{name}"] = np.arange(30) % 2
    save(tmp_path, **arrays)
    data = {
        "dataset": {"a": "npz:rows.npz#a", "b": "npz:rows.npz#b"},
        "partition": {"kind": "domain"},
        "image": {"size": 8, "channels": 1},
    }
    from fedkt.data import build
    from fedkt.scenario import from_dict

    made = {**SMALL, "data": data}
    federation = build(from_dict(made), tmp_path)
    fedkt.simulate(made, out=tmp_path / "run", data_dir=tmp_path)
    model = fedkt.load_model(export(tmp_path / "run", "b", tmp_path / "model"))
    mine = federation.shards[1].rows  # the pool holds a's rows, then b's
    assert torch.equal(model.prepare(arrays["x_b"])[mine - 30], federation.tensors(federation.shards[1])[0])


def test_token_ids_and_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    words = np.array([f"word{rng.integers(9)} {'good' if k else 'bad'} film" for k in y])
    save(tmp_path, x_train=words[:40], y_train=y[:40], x_test=words[40:], y_test=y[40:])
    clients = {"models": ["text"], "local": {"epochs": 10, "lr": 0.01}}
    run(tmp_path, {}, clients=clients)
    assert hit(tmp_path, [str(text) for text in words[40:]], y[40:]) == pytest.approx(told(tmp_path)) == 1.0
    with pytest.raises(InputError, match="ids from 0 to 20000; the model knows 0 to 19999"):
        fedkt.load_model(tmp_path / "model")(np.array([[0] * 127 + [20_000]]))


def test_sparse_rows_and_dense_ones_for_a_sparse_model(tmp_path: Path) -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    x = sparse.csr_matrix((rng.random((80, 30)) < 0.1) + 2.0 * y[:, None] * (np.arange(30) == 3), dtype="f4")
    arrays: dict[str, Any] = {}
    for part, rows in (("train", x[:50]), ("test", x[50:])):
        arrays |= {f"x_{part}_{name}": getattr(rows, name) for name in ("data", "indices", "indptr", "shape")}
    save(tmp_path, **arrays, y_train=y[:50], y_test=y[50:])
    run(tmp_path, {})
    assert hit(tmp_path, x[50:], y[50:]) == pytest.approx(told(tmp_path))
    assert hit(tmp_path, x[50:].toarray(), y[50:]) == pytest.approx(told(tmp_path))


def test_what_classes_of_a_target_are_called(tmp_path: Path) -> None:
    x, y = a_table()
    save(tmp_path, x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    run(tmp_path, {"target": "y>1", "missing": "mean"}, clients={"models": ["tabular"]})
    assert fedkt.load_model(tmp_path / "model").labels == ["y<=1", "y>1"]
    assert hit(tmp_path, x[150:], y[150:] > 1) == pytest.approx(told(tmp_path))


def test_a_model_that_decides_by_prototypes_does_so_when_it_is_exported(tmp_path: Path) -> None:
    """FedPCL's clients predict by the nearest prototype, which is the newest teacher's, not by their head."""
    from sklearn.datasets import load_digits

    x, y = (np.asarray(part) for part in load_digits(return_X_y=True))
    x = (x.reshape(-1, 8, 8) / 16).astype(np.float32)
    save(tmp_path, x_train=x[:600], y_train=y[:600], x_test=x[600:900], y_test=y[600:900])
    data = {"public": {"from": "train", "size": 100}}
    run(
        tmp_path,
        data,
        clients={"models": [{"name": "mlp", "hidden": [16], "width": 8}], "local": {"epochs": 1}},
        strategy={"name": "fedpcl", "pretrain": 2},
        rounds=2,
    )
    rows = [row for row in read_rows(tmp_path / "run" / "clients.jsonl") if row["client"] == 1]
    assert hit(tmp_path, x[600:900], y[600:900]) == pytest.approx(rows[-1]["global"])


def test_an_own_module_s_model_with_its_run_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the run's folder is read: rows that nobody keeps are not looked for."""
    x, y = a_table()
    save(tmp_path, x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    run(tmp_path, {"missing": "median", "standardise": True}, clients={"models": ["tabular"]})
    monkeypatch.setattr("fedkt.data.sets.reading.load_dataset", None)
    again = export(tmp_path / "run", "1", tmp_path / "again")
    for name in ("model.safetensors", "model.json"):
        assert (again / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_equal_tensors_make_equal_files(tmp_path: Path) -> None:
    """Two keys of metadata would come in another order in half of all writes."""
    found = set()
    for number in range(12):
        write_tensors(tmp_path / f"{number}", {"b": torch.ones(2), "a": torch.zeros(3)}, {"round": 1})
        found.add(hashlib.sha256((tmp_path / f"{number}").read_bytes()).hexdigest())
    assert len(found) == 1
    tensors, note = read_tensors(tmp_path / "0")
    assert note == {"round": 1} and tensors["a"].tolist() == [0, 0, 0] and tensors["b"].tolist() == [1, 1]


def test_a_file_without_its_checksum_is_refused(tmp_path: Path) -> None:
    """Also one whose only damage is the checksum's name."""
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2)}, tmp_path / "old", metadata={"note": '{"round": 3}', "crc32": "50fa0d53"})
    with pytest.raises(ValueError, match="checksum"):
        read_tensors(tmp_path / "old")
    save_file({"a": np.ones(2)}, tmp_path / "older", metadata={"note": '{"round": 3}'})
    with pytest.raises(ValueError, match="no checksum"):
        read_tensors(tmp_path / "older")


def test_equal_runs_export_equal_models(tmp_path: Path) -> None:
    """The run's random id is in model.json, not in the weights' file."""
    digests = set()
    for place in ("a", "b"):
        x, y = a_table()
        (tmp_path / place).mkdir()
        save(tmp_path / place, x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
        run(tmp_path / place, {"missing": "mean", "standardise": True}, clients={"models": ["tabular"]})
        weights = (tmp_path / place / "model" / "model.safetensors").read_bytes()
        digests.add(hashlib.sha256(weights).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.0, 2.0]], r"shape \[2\] each, but the model takes \[4\]"),
        ([["a", "b", "c", "d"]], "must be numbers of 2 dimensions"),
        ([[1.0, 2.0, 3.0, np.inf]], "hold infinity"),
        ([1.0, 2.0, 3.0, 4.0], "must be numbers of 2 dimensions"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: Any, words: str) -> None:
    x, y = a_table()
    save(tmp_path, x_train=np.nan_to_num(x)[:40], y_train=y[:40], x_test=np.nan_to_num(x)[40:], y_test=y[40:])
    run(tmp_path, {"standardise": True}, clients={"models": ["tabular"], "local": {"epochs": 1}})
    with pytest.raises(InputError, match=words):
        fedkt.load_model(tmp_path / "model")(rows)


class Records:
    """What the test below gives a model that was trained on columns a, b and c, in this order."""

    @staticmethod
    def shuffled(x: Any) -> Any:
        import pandas as pd

        return pd.DataFrame({"c": x[:, 2], "name": "n", "a": x[:, 0], "b": x[:, 1]})

    @staticmethod
    def nullable(x: Any) -> Any:
        return Records.shuffled(x).astype({"a": "Float64", "b": "Float64"})

    @staticmethod
    def mapping(x: Any) -> Any:
        return {"b": x[:, 1].tolist(), "c": torch.from_numpy(x[:, 2]), "a": x[:, 0]}

    @staticmethod
    def of_rows(x: Any) -> Any:
        return [{"b": float(b), "a": float(a), "c": float(c)} for a, b, c in x]

    @staticmethod
    def arrow(x: Any) -> Any:
        import pyarrow as pa

        return pa.table({"c": x[:, 2], "a": x[:, 0], "b": x[:, 1]})


def test_columns_with_names_are_taken_by_them(tmp_path: Path) -> None:
    """Whatever their order and what stands beside them, or a shuffled data frame is scored wrongly."""
    x, y = a_table()
    x = x[:, :3]
    names = np.array(["a", "b", "c"])
    save(tmp_path, x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:], columns=names)
    trained = {"models": ["tabular"], "local": {"epochs": 8, "lr": 0.01}}
    run(tmp_path, {"missing": "mean", "standardise": True}, clients=trained)
    model = fedkt.load_model(tmp_path / "model")
    expected = model(x[150:])[1]
    assert told(tmp_path) > 0.6
    for form in (Records.shuffled, Records.nullable, Records.mapping, Records.of_rows, Records.arrow):
        assert torch.equal(model(form(x[150:]))[1], expected), form
    missing = [{"a": 1.0, "b": None, "c": 2.0}]  # b is missing, as an empty cell is
    assert torch.equal(model(missing)[1], model(np.array([[1.0, np.nan, 2.0]]))[1])
    with pytest.raises(InputError, match="these rows lack b; the model takes the columns a, b, c"):
        model(Records.shuffled(x).drop(columns="b"))
    with pytest.raises(InputError, match="these rows hold no numbers in b"):
        model(Records.shuffled(x).assign(b="high"))


def test_short_token_ids_are_padded_and_no_text_is_made_of_nothing(tmp_path: Path) -> None:
    ids = np.array([[1, 2, 3, 4], [4, 3, 0, 0]] * 20)
    save(tmp_path, x_train=ids, y_train=np.arange(40) % 2)
    run(tmp_path, {}, clients={"models": ["text"]})
    model = fedkt.load_model(tmp_path / "model")
    assert torch.equal(model(ids[1:2, :2])[1], model(ids[1:2])[1])
    with pytest.raises(InputError, match="these rows has no text in 1 of 2 rows"):
        model(["a text", None])


def test_models_of_parties_that_differ_take_their_own_rows(tmp_path: Path) -> None:
    """A site's table has its own columns alone, and links have names."""
    parties.write(tmp_path)
    models = {}
    for case in ("columns", "links"):
        described = parties.described(case, rounds=1)
        run = fedkt.simulate(described, out=tmp_path / case / "run", data_dir=tmp_path, progress=False)
        models[case] = fedkt.load_model(export(run.path, "a", tmp_path / case / "model"))
    table = pd.read_csv(tmp_path / "a.csv")
    with torch.no_grad():
        own = models["columns"](table[["kind", "c1", "c0"]])[1]
        assert torch.equal(own, models["columns"](table.assign(c2=5.0))[1])
        with pytest.raises(InputError, match="these rows lack c0;"):
            models["columns"](table[["kind", "c1"]])
        names = [["p0", "a", "p1"], ["p3", "c", "p8"]]
        assert torch.equal(models["links"](names)[1], models["links"](np.array([[1, 10, 2], [4, 12, 9]]))[1])
        with pytest.raises(InputError, match="these rows hold 'c', which is no such name of the graph"):
            models["links"]([["p0", "a", "c"]])
