"""Labels by name: one number per name in a whole federation, at every end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, DatasetDict, Features, Value
from datasets import Dataset as Table

from fedkt import scenario as scenarios
from fedkt.data import build, load_dataset
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import in_order, labels_of, vocabulary
from fedkt.data.content.own_rows import OwnRows
from fedkt.data.own import Sources, build_own
from fedkt.data.sets.dataset import dataset_of
from fedkt.deploy.coordinator.reception import fitting
from fedkt.deploy.wire.hello import Facts
from fedkt.deploy.wire.refusal import Refused
from fedkt.engine.world.world import World
from fedkt.errors import InputError

NAMES = ["benign", "malignant", "normal"]
MODULE = __name__


def table(held: list[int], rows: int = 30, typed: bool = False, first: float = 0.0) -> Table:
    c = [held[i % len(held)] for i in range(rows)]
    made = {"f": [first + i for i in range(rows)], "label": [NAMES[i] for i in c]}
    types = {"f": Value("float32"), "label": Value("string")}
    found = Table.from_dict(made, Features(types))
    return found.class_encode_column("label") if typed else found


def read(folder: Path, **data: Any) -> Any:
    made = {"name": "t", "data": data, "clients": {"models": ["tabular"]}}
    return build(scenarios.from_dict(made), folder)


def domains():
    return np.zeros((4, 1)), ["no", "yes", "no", "yes"], ["a", "a", "b", "b"]


@pytest.mark.parametrize("typed", [False, True])
def test_one_number_per_name_over_domains(tmp_path, typed):
    table([0, 1, 2], typed=typed).save_to_disk(tmp_path / "a")
    table([0, 2], typed=typed).save_to_disk(tmp_path / "b")
    split = load_dataset({"b": "hf:b", "a": "hf:a"}, tmp_path)
    assert split.label_names == tuple(NAMES)
    assert split.train.y[:4].tolist() == [0, 2, 0, 2]  # of b: benign, normal
    assert split.train.y[30:33].tolist() == [0, 1, 2]


def test_one_number_per_name_in_train_test_and_public_rows(tmp_path):
    a, b = table([0, 1, 2], typed=True), table([0, 2], typed=True, first=0.5)
    DatasetDict(train=a, test=b).save_to_disk(tmp_path / "both")
    a.save_to_disk(tmp_path / "a")
    b.save_to_disk(tmp_path / "b")
    split = load_dataset("hf:both", tmp_path)
    assert split.test is not None and sorted(set(split.test.y.tolist())) == [0, 2]
    found = read(
        tmp_path,
        dataset="hf:a",
        test="hf:b",
        public={"from": "hf:b", "size": 4},
        partition={"kind": "iid", "clients": 2},
    )
    assert found.label_names == tuple(NAMES)
    assert set(found.test.y.tolist()) == set(found.public.y.tolist()) == {0, 2}


def test_labels_of_transfer_rows_are_nobodys(tmp_path):
    table([0, 1]).save_to_disk(tmp_path / "a")
    Table.from_dict({"f": [1.5, 2.5], "label": [None, "odd"]}).save_to_disk(tmp_path / "t")
    found = read(
        tmp_path,
        dataset="hf:a",
        transfer={"from": "hf:t", "size": 2},
        partition={"kind": "iid", "clients": 2},
    )
    assert (found.label_names, found.transfer.y.tolist()) == (("benign", "malignant"), [-1, -1])


def test_declared_order_is_kept_where_all_agree():
    names = ("yes", "no")
    assert vocabulary({"a": names, "b": names})["a"] == (names, None)
    common = vocabulary({"a": ("yes", "no"), "b": ("no", "unsure")})
    assert common["a"][0] == ("no", "unsure", "yes")
    assert [become.tolist() for _, become in common.values() if become is not None] == [[2, 0], [0, 1]]


def test_names_that_are_numbers_are_in_their_order():
    assert in_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert in_order(["10", "9", "b"]) == ["10", "9", "b"]
    # Digits by name and digits by number are the same.
    digits = tuple(map(str, range(3)))
    assert vocabulary({"a": digits, "b": None}) == {"a": (None, None), "b": (None, None)}


def test_names_and_numbers_cannot_be_matched():
    with pytest.raises(InputError, match="labels of a are the names no, yes but those of b are numbers"):
        vocabulary({"a": ("no", "yes"), "b": None})
    given = vocabulary({"a": ("no", "yes"), "b": None}, ("yes", "no"))
    assert given["a"][0] == given["b"][0] == ("yes", "no")
    assert given["a"][1] is not None and given["a"][1].tolist() == [1, 0]
    with pytest.raises(InputError, match=r"a holds the label 'maybe', but data\.labels is yes, no"):
        vocabulary({"a": ("maybe", "no")}, ("yes", "no"))


def test_texts_are_labels_in_every_loader(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 1)), y_train=["yes", "no"])
    np.savez(tmp_path / "b.npz", x_train=np.zeros((2, 1)), y_train=np.array([b"yes", b"ja"]))
    assert load_dataset("npz:a.npz", tmp_path).train.y.tolist() == [1, 0]
    joined = load_dataset({"a": "npz:a.npz", "b": "npz:b.npz"}, tmp_path)
    assert (joined.label_names, joined.train.y.tolist()) == (("ja", "no", "yes"), [2, 1, 2, 0])
    np.savez(tmp_path / "c.npz", x_train=np.zeros((2, 1)), y_train=[1, 0], label_names=["yes", "no"])
    both = load_dataset({"a": "npz:a.npz", "c": "npz:c.npz"}, tmp_path)
    assert (both.label_names, both.train.y.tolist()) == (("no", "yes"), [1, 0, 0, 1])
    assert load_dataset(f"{MODULE}:domains").label_names == ("no", "yes")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0.0, np.nan], "the label is missing in 1 of 2 rows (first: row 1)"),
        (["a", None], "the label is missing in 1 of 2 rows (first: row 1)"),
        (np.ma.array([0, 1], mask=[True, False]), "the label is missing in 1 of 2 rows (first: row 0)"),
        ([0, 2**70], "whole numbers from 0 to 1048575"),
        (np.array([0, 2**63], np.uint64), "y holds 9223372036854775808; labels must be whole numbers"),
        ([0, 10**12], "are they ids?"),
        ([0.0, np.inf], "y holds inf"),
        ([-1, 1], "y holds -1; labels must be whole numbers from 0 to 1048575, or data.target must make two"),
        ([0, 0.5], "y holds 0.5; labels must be whole numbers"),
        (["a", 1], "y holds a int in row 1 among texts"),
        ([b"\xff", b"a"], "bytes in row 0 that are not UTF-8"),
        (np.array(["2024", "2025"], "M8[Y]"), "datetime64"),
        ([{}, {}], "y holds dict values"),
    ],
)
def test_what_is_no_label_is_refused_in_one_sentence(y, words):
    held = y if isinstance(y, np.ndarray) else np.array(y, object if isinstance(y[0], str | dict) else None)
    with pytest.raises(InputError) as error:
        dataset_of("here", np.zeros((2, 1)), held)
    assert len(error.value.problems) == 1
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("y", "target", "classes"),
    [
        ([-1, 1, -1], "y>0", [0, 1, 0]),
        ([36.6, 38.2, 37.5], "y>37.5", [0, 1, 0]),
        (np.array([2**63, 5], np.uint64), "y>5", [1, 0]),
        (["10", "9", "-3"], "y>9", [1, 0, 0]),
        ([True, False], "y>0", [1, 0]),
    ],
)
def test_a_target_comes_before_the_check_of_labels(y, target, classes):
    labels, names = labels_of("here", y, target)
    assert (labels.tolist(), names) == (classes, None)


def test_a_target_of_names_is_refused():
    with pytest.raises(InputError, match=r"data.target is 'y>0', but the labels are the names no, yes"):
        labels_of("here", ["no", "yes"], "y>0")
    with pytest.raises(InputError, match="the label is missing"):
        labels_of("here", [0.5, np.nan], "y>0")


def test_a_target_of_every_source(tmp_path):
    x = np.arange(40.0)[:, None]
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.where(np.arange(40) % 2, 1, -1))
    np.savez(tmp_path / "b.npz", x_train=x + 0.5, y_train=np.where(np.arange(40) % 4, 0.5, -7.5))
    found = read(
        tmp_path,
        dataset="npz:a.npz",
        test="npz:b.npz",
        public={"from": "npz:b.npz", "size": 4},
        target="y>0",
        partition={"kind": "iid", "clients": 2},
    )
    assert (found.classes, found.test.y[:3].max(), set(found.pool.y.tolist())) == (2, 1, {0, 1})


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.array(["a", None, "b"], object), "x has no text in 1 of 3 rows (first: row 1)"),
        (np.array([None, None, None], object), "x has no text in 3 of 3 rows"),
        (np.array(["a", 1.5, "b"], object), "x holds a float in row 1 among texts"),
        (np.array([b"a", b"\xff", b"b"]), "x holds bytes in row 1 that are not UTF-8"),
    ],
)
def test_missing_and_odd_texts_are_refused_in_one_sentence(x, words):
    with pytest.raises(InputError) as error:
        dataset_of("here", x, [0, 1, 0])
    assert words in str(error.value)


def test_bytes_are_texts():
    made = dataset_of("here", np.array([b"caf\xc3\xa9", b"caf\xc3\xa9"], object), [0, 1])
    assert np.array_equal(made.x, dataset_of("here", np.array(["café"] * 2), [0, 1]).x)


def test_null_labels_and_texts_of_hugging_face_tables(tmp_path):
    Table.from_dict({"f": [1.0, 2.0], "label": ["a", None]}).save_to_disk(tmp_path / "t")
    with pytest.raises(InputError, match=r"hf:t: train: the label is missing in 1 of 2 rows"):
        load_dataset("hf:t", tmp_path)
    types = Features({"f": Value("float32"), "label": ClassLabel(names=["a", "b"])})
    Table.from_dict({"f": [1.0, 2.0], "label": [1, None]}, types).save_to_disk(tmp_path / "u")
    with pytest.raises(InputError, match=r"hf:u: train: the label is missing in 1 of 2 rows"):
        load_dataset("hf:u", tmp_path)
    Table.from_dict({"text": ["x", None], "label": [1, 0]}).save_to_disk(tmp_path / "v")
    with pytest.raises(InputError, match=r"hf:v: train: x has no text in 1 of 2 rows"):
        load_dataset("hf:v", tmp_path)


def test_a_class_without_training_rows_is_named(tmp_path):
    table([0, 1]).save_to_disk(tmp_path / "a")
    with pytest.raises(InputError, match=r"no row of class 2 \(normal\) is left"):
        read(tmp_path, dataset="hf:a", labels=NAMES, partition={"kind": "iid", "clients": 2})


def scenario(**data: Any) -> Any:
    return scenarios.from_dict({"name": "t", "data": data, "clients": {"models": ["tabular"]}})


def test_a_deployed_site_numbers_its_labels_as_the_federation_does(tmp_path):
    table([0, 2]).save_to_disk(tmp_path / "b")
    sources = Sources(tmp_path, "hf:b", classes=3)
    with pytest.raises(InputError, match=r"holds the labels benign, normal, but data.classes is 3"):
        build_own("b", sources, scenario())
    own = build_own("b", sources, scenario(labels=NAMES))
    assert (own.label_names, sorted(set(own.pool.y.tolist())), own.classes) == (tuple(NAMES), [0, 2], 3)


def test_a_sites_file_keeps_the_names(tmp_path):
    table([0, 1, 2]).save_to_disk(tmp_path / "a")
    train = load_dataset("hf:a", tmp_path).train
    only = train.take(np.flatnonzero(train.y != 1))
    assert OwnRows(scenario().data, {}).save(tmp_path / "rows", only) == "npz:rows.npz"
    own = build_own("b", Sources(tmp_path, "npz:rows.npz", classes=3), scenario())
    assert (own.label_names, own.pool.columns) == (tuple(NAMES), ("f",))
    assert sorted(set(own.pool.y.tolist())) == [0, 2]


def test_sites_of_other_names_are_refused_with_both_lists(tmp_path):
    facts = {}
    for name, held in {"a": [0, 1], "b": [0, 1], "c": [0, 2]}.items():
        table(held).save_to_disk(tmp_path / name)
        made = scenarios.from_dict(
            {"name": "t", "clients": {"models": ["tabular"]}, "strategy": {"name": "local"}}
        )
        facts[name] = Facts.of(World(made, build_own(name, Sources(tmp_path, f"hf:{name}"), made)), name)
    told: list[Any] = []
    assert sorted(fitting(facts, lambda name, why: told.append((name, why.detail)))) == ["a", "b"]
    assert told[0][0] == "c"
    assert "labels benign, normal" in told[0][1] and "labels benign, malignant" in told[0][1]
    assert "data.labels" in told[0][1]
    with pytest.raises(Refused, match="labels benign, malignant"):
        fitting({name: facts[name] for name in ("a", "c")}, lambda *_: None)


def test_names_of_labels_are_shown_and_kept_with_the_run(tmp_path, capsys):
    import json

    import fedkt
    from fedkt.cli.scenario_view import show_scenario
    from fedkt.engine.checks.checked import checked_world

    table([0, 1, 2], 60).save_to_disk(tmp_path / "a")
    made = {
        "name": "t",
        "data": {"dataset": "hf:a", "partition": {"kind": "iid", "clients": 2}},
        "clients": {"models": ["tabular"]},
        "strategy": {"name": "fd"},
        "rounds": 1,
        "engine": {"kind": "inline"},
    }
    show_scenario(checked_world(scenarios.from_dict(made), tmp_path), None)
    shown = capsys.readouterr().out
    assert "labels: 0 benign, 1 malignant, 2 normal" in shown and "columns as they are read" in shown
    result = fedkt.simulate(made, out=tmp_path / "run", data_dir=tmp_path)
    kept = json.loads((Path(result.path) / "model-input.json").read_text())
    assert (kept["labels"], kept["columns"]) == (NAMES, ["f"])


def test_choices_without_a_label_column_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 1)), y_train=[0, 1])
    with pytest.raises(
        InputError, match=r"data\.label names a column, but 'npz:a\.npz' gives rows and labels"
    ):
        load_dataset("npz:a.npz", tmp_path, choices=Choices(label="y"))
    with pytest.raises(
        InputError, match=r"data\.drop speaks of columns by name, but these rows have no names"
    ):
        load_dataset("npz:a.npz", tmp_path, choices=Choices(drop=("y",)))
