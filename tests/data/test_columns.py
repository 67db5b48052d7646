"""Columns and rows by their names, in every loader."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, DatasetDict, Features, Value
from datasets import Dataset as Table

from fedkt import scenario as scenarios
from fedkt.data import build, load_dataset
from fedkt.data.columns.cells import names_of
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.named import copies_of
from fedkt.data.own import Sources, build_own
from fedkt.data.sets.dataset import dataset_of
from fedkt.errors import InputError

MODULE = __name__
BIG = 2**53 + 1  # what float64 cannot hold
STAMP = 1.7e9


def save(folder: Path, name: str, columns: dict[str, Any], types: dict[str, Any] | None = None) -> str:
    Table.from_dict(columns, None if types is None else Features(types)).save_to_disk(folder / name)
    return f"hf:{name}"


def read(folder: Path, settings: dict[str, Any], models: tuple[str, ...] = ("tabular",)) -> Any:
    data = {"partition": {"kind": "iid", "clients": 2}, **settings}
    clients = {"models": list(models)}
    return build(scenarios.from_dict({"name": "t", "data": data, "clients": clients}), folder)


def test_blanks_are_missing_values_and_their_columns_stay(tmp_path):
    spec = save(
        tmp_path,
        "t",
        {
            "age": [30, None, 40],
            "dose": [0.5, 1.5, None],
            "smokes": [True, None, False],
            "never": [None, None, None],
            "label": [0, 1, 0],
        },
    )
    train = load_dataset(spec, tmp_path).train
    assert train.columns == ("age", "dose", "smokes", "never")
    expected: Any = [[30, 0.5, 1, np.nan], [np.nan, 1.5, np.nan, np.nan], [40, np.nan, 0, np.nan]]
    assert np.array_equal(train.x, expected, equal_nan=True)


def test_columns_of_splits_and_domains_meet_by_name(tmp_path):
    a = Table.from_dict({"p": [1.0, 2.0], "q": [10.0, 20.0], "label": [0, 1]})
    b = Table.from_dict({"label": [1, 0], "q": [30.0, 40.0], "p": [3.0, 4.0]})
    DatasetDict(train=a, test=b).save_to_disk(tmp_path / "both")
    a.save_to_disk(tmp_path / "a")
    b.save_to_disk(tmp_path / "b")
    split = load_dataset("hf:both", tmp_path)
    assert split.test is not None
    assert split.test.x.tolist() == [[3, 30], [4, 40]]
    joined = load_dataset({"a": "hf:a", "b": "hf:b"}, tmp_path)
    assert joined.train.x.tolist() == [[1, 10], [2, 20], [3, 30], [4, 40]]


def test_test_transfer_and_public_rows_take_the_order_of_the_private_columns(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"p": rng.normal(size=40).tolist(), "q": (100 + rng.normal(size=40)).tolist()}
    save(tmp_path, "own", {**rows, "label": [0, 1] * 20})
    others = {name: [value + 0.5 for value in values] for name, values in rows.items()}
    save(tmp_path, "other", {"q": others["q"], "label": [0, 1] * 20, "p": others["p"]})
    found = read(
        tmp_path,
        {
            "dataset": "hf:own",
            "test": "hf:other",
            "transfer": {"from": "hf:other", "size": 5},
            "public": {"from": "hf:other", "size": 5},
        },
    )
    for part in (found.test, found.transfer, found.public):
        assert part.columns == ("p", "q")
        assert part.x[:, 0].max() < 50 < part.x[:, 1].min()


def test_what_one_source_lacks_is_named_with_the_reason(tmp_path):
    save(tmp_path, "a", {"p": [1.0, 2.0], "chol": [1.0, 2.0], "label": [0, 1]})
    save(tmp_path, "b", {"p": [1.0, 2.0], "chol": ["?", "2"], "weight": [1.0, 2.0], "label": [0, 1]})
    with pytest.raises(InputError) as error:
        load_dataset({"a": "hf:a", "b": "hf:b"}, tmp_path)
    assert len(error.value.problems) == 1
    assert "domain 'b' lacks chol (text there) and has weight beside" in str(error.value)
    assert "domain 'a': p, chol" in str(error.value)
    both = load_dataset({"a": "hf:a", "b": "hf:b"}, tmp_path, choices=Choices(drop=("chol", "weight")))
    assert both.train.columns == ("p",)


def test_npz_files_may_name_their_columns(tmp_path):
    x = np.array([[1.0, 10.0], [2.0, 20.0]])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=[0, 1], columns=["p", "q"])
    np.savez(tmp_path / "b.npz", x_train=x[:, ::-1], y_train=[0, 1], feature_names=["q", "p"])
    joined = load_dataset({"a": "npz:a.npz", "b": "npz:b.npz"}, tmp_path)
    assert joined.train.x.tolist() == [[1, 10], [2, 20], [1, 10], [2, 20]]
    taken = load_dataset("npz:a.npz", tmp_path, choices=Choices(columns=("q",)))
    assert (taken.train.x.tolist(), taken.left_out) == ([[10], [20]], (("p", "not in data.columns"),))
    np.savez(tmp_path / "c.npz", x_train=x, y_train=[0, 1], columns=["p", "q", "r"])
    with pytest.raises(InputError, match="x has 2 columns but 3 names"):
        load_dataset("npz:c.npz", tmp_path)


def frame():
    x = pd.DataFrame({"age": pd.array([30, None, 50], "Int64"), "sex": ["f", "m", "f"], "dose": [1, 2, 3]})
    return x, pd.Series(["no", "yes", "no"])


def records():
    x = np.array([(1, 0.5), (2, 1.5)], dtype=[("age", "i8"), ("dose", "f8")])
    return x, [0, 1]


def shuffled():
    x = pd.DataFrame({"age": [1.0, 2.0, 3.0]}, index=["u", "v", "w"])
    return x, pd.Series([0, 1, 0], index=["w", "v", "u"]), pd.Series(["a", "b", "c"], index=["v", "u", "w"])


def strangers():
    return pd.DataFrame({"age": [1.0, 2.0]}, index=[0, 1]), pd.Series([0, 1], index=[1, 2])


def test_data_frames_and_records_are_tables_by_name():
    split = load_dataset(f"{MODULE}:frame")
    assert (split.train.kind, split.train.columns, split.label_names) == (
        "tabular",
        ("age", "dose"),
        ("no", "yes"),
    )
    assert np.array_equal(split.train.x, np.array([[30, 1], [np.nan, 2], [50, 3]]), equal_nan=True)
    assert split.left_out == (("sex", "no numbers"),)
    train = load_dataset(f"{MODULE}:records").train
    assert (train.columns, train.x.tolist()) == (("age", "dose"), [[1, 0.5], [2, 1.5]])


def test_rows_of_pandas_meet_by_their_index():
    train = load_dataset(f"{MODULE}:shuffled").train
    assert train.domain is not None
    assert (train.y.tolist(), train.domain.tolist()) == ([0, 1, 0], ["b", "a", "c"])
    with pytest.raises(InputError, match="different row names"):
        load_dataset(f"{MODULE}:strangers")


def test_label_wins_over_a_class_label_before_it(tmp_path):
    types = {"site": ClassLabel(names=["a", "b", "c"]), "f": Value("float32"), "label": Value("int64")}
    save(tmp_path, "t", {"site": [0, 1, 2], "f": [1.0, 2.0, 3.0], "label": [0, 1, 1]}, types)
    split = load_dataset("hf:t", tmp_path)
    assert (split.classes, split.train.columns) == (2, ("f",))
    assert split.left_out == (("site", "names, not numbers"),)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"f": [1.0, 2.0], "target": [0, 1], "class": [1, 0]},
            "target, class, each of which may be the label",
        ),
        ({"f": [1.0, 2.0], "label": [0, 1], "y": [0, 1]}, "label, y, each of which may be the label"),
        (
            {"text": ["a", "b"], "age": [1, 2], "label": [0, 1]},
            "text 'text' beside the numbers age; data.kind",
        ),
        (
            {"premise": ["a", "b"], "claim": ["c", "d"], "label": [0, 1]},
            "premise, claim, each of which may be",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_choice(tmp_path, columns, words):
    save(tmp_path, "t", columns)
    with pytest.raises(InputError, match=r"data\.(label|kind|columns)") as error:
        load_dataset("hf:t", tmp_path)
    assert words in str(error.value)


def test_the_choices_decide(tmp_path):
    columns = {"target": [0, 1], "class": [1, 0], "text": ["a", "b c"], "age": [1, 2], "note": ["u", "v"]}
    save(tmp_path, "t", columns)
    table = load_dataset("hf:t", tmp_path, choices=Choices(label="class", kind="table", drop=("target",)))
    assert (table.train.columns, table.train.y.tolist()) == (("age",), [1, 0])
    text = load_dataset("hf:t", tmp_path, choices=Choices(label="target", kind="text"))
    assert (text.train.kind, text.train.y.tolist(), int((text.train.x[1] > 0).sum())) == ("tokens", [0, 1], 2)
    other = load_dataset("hf:t", tmp_path, choices=Choices(label="target", columns=("note",)))
    assert (other.train.kind, int((other.train.x > 0).sum())) == ("tokens", 2)
    for choices, words in (
        (Choices(label="clas"), "did you mean 'class'"),
        (Choices(label="target", columns=("aje",)), "did you mean 'age'"),
        (Choices(label="target", kind="table", columns=("note",)), "column 'note', which data.columns names"),
    ):
        with pytest.raises(InputError) as error:
            load_dataset("hf:t", tmp_path, choices=choices)
        assert words in str(error.value)


def test_a_text_beside_numbers_is_left_out_and_said_to_be(tmp_path):
    rows = {"age": list(range(30)), "id": list(range(30)), "sex": ["f", "m"] * 15, "label": [0, 0, 1] * 10}
    save(tmp_path, "t", rows)
    found = read(tmp_path, {"dataset": "hf:t"})
    assert (found.input.kind, found.pool.columns) == ("tabular", ("age",))
    assert found.notes == ("data.dataset: left out: id (names rows); sex (text).",)
    kept = read(tmp_path, {"dataset": "hf:t", "columns": ["id", "age"]})
    assert kept.pool.columns == ("id", "age")
    with pytest.raises(InputError, match=r"data\.drop names 'sax', which no data set has"):
        read(tmp_path, {"dataset": "hf:t", "drop": ["sax"]})


def test_arrays_and_splits_that_are_not_read_are_named(tmp_path):
    x, y = np.zeros((6, 2)), [0, 1] * 3
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_dev=x, y_dev=y)
    assert load_dataset("npz:a.npz", tmp_path).left_out == (("x_dev", "not read"), ("y_dev", "not read"))
    rows = Table.from_dict({"f": [1.0, 2.0], "label": [0, 1]})
    DatasetDict(train=rows, test=rows, validation=rows).save_to_disk(tmp_path / "t")
    assert load_dataset("hf:t", tmp_path).left_out == (("split validation", "not read"),)


def test_a_column_that_says_the_label_is_no_feature(tmp_path):
    y = [0, 1, 1, 0] * 10
    rows = {"f": np.arange(40.0).tolist(), "code": [7.0 if v else 3.0 for v in y], "label": y}
    save(tmp_path, "t", rows)
    with pytest.raises(InputError, match=r"'code' says the label of every row; data\.drop must name"):
        read(tmp_path, {"dataset": "hf:t"})
    assert read(tmp_path, {"dataset": "hf:t", "drop": ["code"]}).pool.columns == ("f",)
    np.savez(tmp_path / "a.npz", x_train=np.stack([rows["f"], rows["code"]], 1), y_train=y)
    noted = read(tmp_path, {"dataset": "npz:a.npz"}).notes
    assert noted == ("data.dataset: column 1 says the label of every row.",)


def test_copies_of_labels_are_found_by_content():
    y = np.array([0, 1, 2] * 7)
    x = np.stack([y, y % 2, 10 - y, np.arange(21) % 4], 1).astype(float)
    assert copies_of(y, x) == [0, 2]
    assert copies_of(y[:18], x[:18]) == []  # so few rows may agree by chance


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (np.array([1e15 + 1, 7.0]), ["1000000000000001", "7"]),
        (np.array([BIG, 5]), ["9007199254740993", "5"]),
        (np.array([0.5, 7.0]), ["0.5", "7.0"]),
        (np.array([b"caf\xc3\xa9", b"x"]), ["café", "x"]),
        (np.array(["007", "7"], object), ["007", "7"]),
        (
            np.array(["2024-05-01T00:00:01", "2024-05-01"], "M8[s]"),
            ["2024-05-01T00:00:01", "2024-05-01T00:00:00"],
        ),
    ],
)
def test_ids_are_as_written(values, names):
    assert names_of("ids", values).tolist() == names


@pytest.mark.parametrize(
    "values",
    [[1.0, np.nan], ["a", None], np.ma.array([1, 2], mask=[False, True]), np.array(["2024", "NaT"], "M8[D]")],
)
def test_rows_without_id_are_refused(values):
    if isinstance(values, list):
        values = np.array(values, object if values[0] == "a" else float)
    with pytest.raises(InputError, match=r"here: ids is missing in 1 of 2 rows \(first: row 1\)"):
        dataset_of("here", np.zeros((2, 1)), [0, 1], ids=values)


def test_ids_of_hugging_face_tables_keep_their_digits_and_names(tmp_path):
    types = {"who": Value("float64"), "f": Value("float32"), "label": Value("int64")}
    columns = {"who": [16777216.0, 16777217.0], "f": [1.0, 2.0], "label": [0, 1]}
    spec = save(tmp_path, "t", columns, types)
    train = load_dataset(spec, tmp_path, column="who").train
    assert train.ids is not None and train.ids.tolist() == ["16777216", "16777217"]
    types["who"] = ClassLabel(names=["bern", "basel"])
    spec = save(tmp_path, "u", {**columns, "who": [1, 0]}, types)
    train = load_dataset(spec, tmp_path, column="who").train
    assert train.ids is not None and train.ids.tolist() == ["basel", "bern"]


def test_time_stamps_keep_their_digits(tmp_path):
    save(tmp_path, "t", {"at": [STAMP, STAMP + 1], "label": [0, 1]})
    assert load_dataset("hf:t", tmp_path).train.x.tolist() == [[STAMP], [STAMP + 1]]
    for x in (np.array([[STAMP], [STAMP + 1]]), np.array([[STAMP], [STAMP + 1]], np.int64)):
        made = dataset_of("here", x, [0, 1], choices=Choices(kind="table"))
        assert made.x.tolist() == [[STAMP], [STAMP + 1]]
    assert dataset_of("here", np.zeros((2, 2), np.float32), [0, 1]).x.dtype == np.float32


def test_masked_values_are_missing():
    x = np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    made = dataset_of("here", x, [0, 1])
    assert made.kind == "tabular"
    assert np.array_equal(made.x, np.array([[1, np.nan], [3, 4]]), equal_nan=True)
    plain = dataset_of("here", np.ma.array([[1.0, 2.0]] * 2, mask=False), [0, 1])
    assert plain.x.tolist() == [[1, 2]] * 2
    with pytest.raises(InputError, match="images must be whole"):
        dataset_of(
            "here", np.ma.array(np.zeros((2, 3, 3)), mask=np.eye(3, dtype=bool)[None].repeat(2, 0)), [0, 1]
        )


def test_numbers_that_are_python_objects():
    x = np.array([[1, None], [2.5, Decimal("3")]], object)
    assert dataset_of("d", x, [0, 1]).x[1].tolist() == [2.5, 3.0]
    x[1, 1] = "3"
    with pytest.raises(InputError, match="column 1 of x holds '3'"):
        dataset_of("here", x, [0, 1])
    x[1, 1] = 3
    assert np.array_equal(dataset_of("here", x, [0, 1]).x, np.array([[1, np.nan], [2.5, 3]]), equal_nan=True)


@pytest.mark.parametrize(
    ("models", "dtype", "kind"),
    [(("tabular",), np.int64, "tabular"), (("mlp",), np.int32, "tabular"), (("text",), np.uint16, "tokens")],
)
def test_models_decide_what_whole_numbers_are(tmp_path, models, dtype, kind):
    x = np.arange(60).reshape(20, 3).astype(dtype)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=[0, 1] * 10)
    found = read(tmp_path, {"dataset": "npz:a.npz"}, models)
    assert (found.input.kind, found.input.shape) == (kind, (3,))


def test_data_kind_decides_before_the_models(tmp_path):
    x = np.arange(60).reshape(20, 3)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=[0, 1] * 10)
    assert read(tmp_path, {"dataset": "npz:a.npz", "kind": "table"}, ("text",)).input.kind == "tabular"
    with pytest.raises(InputError, match="token ids; these must be whole numbers"):
        dataset_of("here", x + 0.5, [0, 1] * 10, choices=Choices(kind="tokens"))


def test_whole_numbers_are_a_table_where_another_domain_is_one(tmp_path):
    x = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "a.npz", x_a=x + 0.5, y_a=[0, 1], x_b=x, y_b=[0, 1])
    train = load_dataset("npz:a.npz", tmp_path).train
    assert (train.kind, train.x[2:].tolist()) == ("tabular", [[0, 1, 2], [3, 4, 5]])


def test_input_ids_are_token_ids_of_any_length(tmp_path):
    columns = {"input_ids": [[5, 6, 7], [8]], "attention_mask": [[1, 1, 0], [1]], "label": [0, 1]}
    save(tmp_path, "t", columns)
    split = load_dataset("hf:t", tmp_path)
    assert (split.train.kind, split.train.x.tolist()) == ("tokens", [[5, 6, 0], [8, 0, 0]])
    assert split.left_out == (("attention_mask", "not the token ids"),)


@pytest.mark.parametrize(
    "spec", ["tsv:a.csv", "a.xlsx", "hf:a.csv", "excel:x.xlsx", "npz:a.csv", "sub/a.json"]
)
def test_a_file_that_is_no_data_set_is_told_what_one_is(tmp_path, spec):
    (tmp_path / "a.csv").write_text("a,label\n1,0\n")
    with pytest.raises(InputError) as error:
        load_dataset(spec, tmp_path)
    assert all(words in str(error.value) for words in ("csv:FILE", "npz:FILE", "hf:NAME", "module:function"))
    with pytest.raises(InputError, match=r"such a file is written as 'csv:a\.csv'"):
        load_dataset("a.csv", tmp_path)


def test_a_sites_columns_take_the_order_of_the_common_set(tmp_path):
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=30), 100 + rng.normal(size=30)
    np.savez(tmp_path / "rows.npz", x_train=np.stack([q, p], 1), y_train=[0, 1] * 15, columns=["q", "p"])
    np.savez(tmp_path / "t.npz", x_train=np.stack([p, q], 1) + 0.5, y_train=[0, 1] * 15, columns=["p", "q"])
    made = scenarios.from_dict({"name": "t", "clients": {"models": ["tabular"]}})
    own = build_own("s", Sources(tmp_path, "npz:rows.npz", transfer="npz:t.npz"), made)
    assert own.pool.columns == ("p", "q")
    assert own.pool.x[:, 1].min() > 50


def uneven():
    return {"a": [1, 2], "b": [1.5]}, [0, 1]


def test_choices_that_a_source_cannot_follow_are_refused(tmp_path):
    with pytest.raises(InputError, match="columns have from 1 to 2 rows"):
        load_dataset(f"{MODULE}:uneven")
    for choices, words in (
        (Choices(kind="table"), "data.kind is table, but its rows are image"),
        (Choices(drop=("a",)), "these rows have no names"),
        (Choices(labels=("a", "b")), "holds label 9, but data.labels names 2 classes"),
    ):
        with pytest.raises(InputError, match=words):
            load_dataset("digits", choices=choices)
    save(tmp_path, "t", {"e": [[1.0, 2.0], None], "label": [0, 1]})
    with pytest.raises(InputError, match="lists in column 'e' differ in length or lack values"):
        load_dataset("hf:t", tmp_path)
    save(tmp_path, "u", {"f": [1.0, 2.0], "label": [0, 1]})
    with pytest.raises(InputError, match="no column holds images"):
        load_dataset("hf:u", tmp_path, choices=Choices(kind="image"))


# Siblings: other types of numbers, other names of labels ------------------------------------------------


def decimals():
    cells: list[Any] = [Decimal("1.25") + (i * i) % 5 for i in range(30)]
    cells[3] = None
    return pd.DataFrame({"a": np.arange(30.0), "price": cells}), np.arange(30) % 2


def tensors():
    import torch

    x = torch.arange(60.0).view(30, 2)
    return (x / 8).bfloat16().requires_grad_(), torch.arange(30) % 2


def a_hub_table():
    return Table.from_dict({"b": [0.5] * 29 + [None], "a": list(range(30))}), np.arange(30) % 2


def test_decimal_numbers_are_numbers():
    found = read(Path(), {"dataset": f"{MODULE}:decimals", "missing": "mean"})
    assert found.pool.columns == ("a", "price") and not found.notes
    assert found.pool.x[:3, 1].tolist() == [1.25, 2.25, 5.25] and np.isnan(found.pool.x[3, 1])


def test_tensors_of_any_type_are_rows():
    found = read(Path(), {"dataset": f"{MODULE}:tensors"})
    assert found.pool.x.dtype == np.float32 and found.pool.x[1].tolist() == [0.25, 0.375]


def test_a_function_may_return_a_table_of_hugging_face():
    found = read(Path(), {"dataset": f"{MODULE}:a_hub_table", "missing": "zero"})
    assert found.pool.columns == ("b", "a") and np.isnan(found.pool.x[29, 0])


def test_a_second_label_under_a_longer_name_is_no_feature(tmp_path):
    y = (np.arange(30) % 6).tolist()
    spec = save(tmp_path, "two", {"a": np.arange(30.0), "fine_label": y, "coarse_label": [v // 3 for v in y]})
    with pytest.raises(InputError, match="fine_label, coarse_label, each of which may be the label"):
        read(tmp_path, {"dataset": spec})
    found = read(tmp_path, {"dataset": spec, "label": "coarse_label", "drop": ["fine_label"]})
    assert found.pool.columns == ("a",) and found.classes == 2


def test_names_that_are_chosen_twice_or_are_the_label_are_refused(tmp_path):
    spec = save(tmp_path, "t", {"a": np.arange(30.0), "label": (np.arange(30) % 2).tolist()})
    with pytest.raises(InputError, match=r"data\.columns names 'a' twice; name it once"):
        read(tmp_path, {"dataset": spec, "columns": ["a", "a"]})
    with pytest.raises(InputError, match=r"data\.labels names 'no' twice; name it once"):
        read(tmp_path, {"dataset": spec, "labels": ["no", "no"]})
    with pytest.raises(
        InputError, match=r"data\.columns names 'label', which holds the labels; leave it out"
    ):
        read(tmp_path, {"dataset": spec, "columns": ["a", "label"]})


def test_a_split_without_labels_is_said_to_be(tmp_path):
    train = Table.from_dict({"a": np.arange(30.0), "label": (np.arange(30) % 2).tolist()})
    test = Table.from_dict({"a": np.arange(5.0), "label": [0, 1, -1, 0, 1]})
    DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "t"))
    assert "data.dataset: left out: split test (labels unknown)." in read(tmp_path, {"dataset": "hf:t"}).notes


def test_a_folder_of_files_below_the_data_folder_is_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    lines = ["a,b,label", *(f"{i},{i * i},{'no' if i % 2 else 'yes'}" for i in range(30))]
    (tmp_path / "mine" / "train.csv").write_text("\n".join(lines))
    found = read(tmp_path, {"dataset": "hf:mine"})
    assert found.pool.columns == ("a", "b") and found.label_names == ("no", "yes")
    assert found.pool.x[3].tolist() == [3.0, 9.0]


def test_a_column_without_a_value_at_a_client_is_told(tmp_path):
    x = np.ones((40, 2), np.float32) * np.arange(40)[:, None]
    x[:20, 1] = np.nan
    y = np.arange(20) % 2
    columns = np.array(["age", "pressure"])
    np.savez(tmp_path / "d.npz", x_near=x[:20], y_near=y, x_far=x[20:], y_far=y, columns=columns)
    settings = {"dataset": "npz:d.npz", "partition": {"kind": "domain"}, "missing": "mean"}
    told = (
        "column 'pressure' has no value in the rows of 1 of 2 clients (near), so it is 0 for every row there."
    )
    assert f"data.dataset: {told}" in read(tmp_path, settings).notes
    assert not any("has no value" in note for note in read(tmp_path, settings | {"missing": "zero"}).notes)


HALF = "a \ud800 b"
"""Half a character, which UTF-8 cannot write."""


@pytest.mark.parametrize(
    ("x", "y", "domain", "words"),
    [
        ([[1, 2], [3]], [0, 1], None, "d: x is in rows that differ in length or form; all must be alike"),
        ([[1.0], [2.0]], [[0], [0, 1]], None, "d: y is in rows that differ in length or form"),
        (np.zeros((2, 0)), [0, 1], None, "d: x has no columns; at least one is needed"),
        (["fine", HALF], [0, 1], None, "d: x holds half a character (a lone surrogate) in row 1"),
        ([[1.0], [2.0]], [HALF, "b"], None, "d: y holds half a character (a lone surrogate) in row 0"),
        ([[1.0], [2.0]], [0, 1], [HALF, "b"], "d: domain holds half a character (a lone surrogate) in row 0"),
    ],
)
def test_what_is_no_row_or_no_text_is_refused_in_a_sentence(x, y, domain, words):
    with pytest.raises(InputError) as told:
        dataset_of("d", x, y, domain=domain)
    assert told.value.problems[0].startswith(words)


def test_a_column_of_uneven_lists_holds_no_numbers():
    found = dataset_of("d", {"a": [1.0, 2.0], "b": [[1, 2], [3]]}, [0, 1])
    assert (found.columns, found.left_out) == (("a",), (("b", "no numbers"),))
