"""Loading data sets: raw arrays, npz files, text, plug-in functions, Hugging Face folders."""

import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from fedkt.data import load_dataset
from fedkt.data.columns.sample import apportion, stratified
from fedkt.data.columns.tokens import tokenise
from fedkt.data.sets.dataset import Dataset, Split, dataset_of
from fedkt.errors import InputError
from fedkt.scenario import Image

MODULE = __name__
Y4 = np.array([0, 1, 0, 1])


def write(folder: Path, name: str = "a.npz", **arrays) -> str:
    np.savez(folder / name, **arrays)
    return f"npz:{name}"


def with_domains():
    return np.zeros((4, 3), np.float32), Y4, ["a", "a", "b", "b"]


def with_folder(data_dir):
    return np.full((2, 1, 4, 4), 0.5), [0, 1] if data_dir is None else [1, 0]


def a_split():
    rows = Dataset(np.zeros((2, 3), np.float32), np.array([0, 1]), None, "tabular")
    return Split(rows, rows, 2)


def nonsense():
    return [1, 2, 3]


NOT_A_FUNCTION = 7


def test_digits_has_a_fixed_stratified_split():
    split = load_dataset("fedkt.data.sets.digits:digits")
    assert split.test is not None
    assert (len(split.train), len(split.test), split.classes) == (1438, 359, 10)
    assert split.train.shape == (1, 8, 8)
    assert split.train.x.dtype == np.float32
    assert (split.train.x.min(), split.train.x.max()) == (0, 1)
    whole = np.bincount(split.train.y) + np.bincount(split.test.y)
    assert np.abs(np.bincount(split.test.y) - 0.2 * whole).max() < 1


@pytest.mark.parametrize(
    ("x", "kind", "shape", "dtype"),
    [
        (np.zeros((4, 5, 6), np.uint8), "image", (1, 5, 6), np.uint8),
        (np.zeros((4, 5, 6, 3), np.uint8), "image", (3, 5, 6), np.uint8),
        (np.zeros((4, 3, 5, 6), np.float64), "image", (3, 5, 6), np.float32),
        (np.zeros((4, 5)), "tabular", (5,), np.float64),
        (np.zeros((4, 5), np.uint8), "tabular", (5,), np.float32),
        (np.zeros((4, 5), np.int32), "tokens", (5,), np.int64),
        (np.array(["a", "b", "a b", ""]), "tokens", (128,), np.int64),
        (sparse.coo_matrix(np.eye(4)), "sparse", (4,), np.float32),
    ],
)
def test_the_form_of_an_array_decides_its_kind(x, kind, shape, dtype):
    made = dataset_of("here", x, Y4)
    assert (made.kind, made.shape, made.x.dtype) == (kind, shape, dtype)


def test_channels_last_becomes_channels_first():
    x = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    made = dataset_of("here", x, [0, 1])
    assert made.x[0].tolist() == [[[0, 3], [6, 9]], [[1, 4], [7, 10]], [[2, 5], [8, 11]]]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((4, 3)), [0, 1], "x has 4 rows but y has 2"),
        (np.zeros((4, 3)), [0, 1, -1, 0], "y holds -1"),
        (np.zeros((4, 3)), [0, 1, 0.5, 0], "whole numbers"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "y has shape (4, 2)"),
        (np.full((4, 3), np.inf), Y4, "infinity"),
        (np.full((4, 3, 3), 2.0), Y4, "[0, 1]"),
        (np.full((4, 3, 3), 300), Y4, "[0, 255]"),
        (np.zeros((4, 5, 5, 7)), Y4, "1 or 3 channels"),
        (np.full((4, 3), -1), Y4, "token ids"),
        (np.zeros((4, 3), complex), Y4, "complex128"),
        (np.zeros(4), Y4, "shape (4,)"),
        (np.zeros((0, 3)), np.zeros(0, int), "no rows"),
    ],
)
def test_unusable_arrays_are_refused_in_one_sentence(x, y, words):
    with pytest.raises(InputError) as error:
        dataset_of("here", x, y)
    assert len(error.value.problems) == 1
    assert error.value.problems[0].startswith("here")
    assert words in error.value.problems[0]


def test_npz_single_set(tmp_path):
    spec = write(
        tmp_path,
        x_train=np.zeros((4, 5, 5, 1), np.uint8),
        y_train=Y4,
        x_test=np.ones((2, 5, 5, 1), np.uint8),
        y_test=[0, 2],
        x_dev=np.zeros(3),
        extra=np.zeros(1),
    )
    split = load_dataset(spec, tmp_path)
    assert split.test is not None
    assert (split.train.shape, split.classes, split.test.y.tolist()) == ((1, 5, 5), 3, [0, 2])


def test_npz_domains_with_and_without_test_rows(tmp_path):
    spec = write(
        tmp_path,
        x_b_train=np.ones((2, 3)),
        y_b_train=[0, 1],
        x_b_test=np.ones((1, 3)),
        y_b_test=[1],
        x_a=np.zeros((3, 3)),
        y_a=[0, 1, 2],
    )
    split = load_dataset(spec, tmp_path)
    assert split.train.domain is not None and split.test is not None and split.test.domain is not None
    assert split.train.domain.tolist() == ["a", "a", "a", "b", "b"]
    assert split.test.domain.tolist() == ["b"]
    assert split.classes == 3


def test_one_domain_of_an_npz_file(tmp_path):
    rows: dict[str, Any] = {
        "x_b_train": np.ones((2, 3)),
        "y_b_train": [0, 1],
        "x_b_test": np.ones((1, 3)),
        "y_b_test": [1],
    }
    spec = write(tmp_path, **rows, x_a=np.zeros((3, 3)), y_a=[0, 1, 2])
    split = load_dataset(f"{spec}#b", tmp_path)
    assert (len(split.train), split.classes, split.train.domain) == (2, 2, None)
    assert split.test is not None
    assert split.test.y.tolist() == [1]
    alone = load_dataset(f"{spec}#a", tmp_path)
    assert (alone.train.y.tolist(), alone.test) == ([0, 1, 2], None)
    # A mapping of such specifications leaves a domain out.
    named = load_dataset({"one": f"{spec}#a"}, tmp_path).train.domain
    assert named is not None
    assert named.tolist() == ["one"] * 3
    with pytest.raises(InputError, match=r"npz:a\.npz has no domain 'c'; valid names are a, b"):
        load_dataset(f"{spec}#c", tmp_path)
    single = write(tmp_path, "s.npz", x_train=np.ones((2, 3)), y_train=[0, 1])
    with pytest.raises(InputError, match="has no domain 'train'; it holds a single data set"):
        load_dataset(f"{single}#train", tmp_path)


def test_npz_csr_pieces(tmp_path):
    dense = np.array([[0, 2, 0], [1, 0, 3]])
    csr = sparse.csr_matrix(dense)
    spec = write(
        tmp_path,
        x_books_train_data=csr.data.astype(np.uint8),
        x_books_train_indices=csr.indices.astype(np.int16),
        x_books_train_indptr=csr.indptr,
        x_books_train_shape=np.array(csr.shape),
        y_books_train=[0, 1],
    )
    split = load_dataset(spec, tmp_path)
    assert split.train.kind == "sparse"
    assert split.train.x.toarray().tolist() == dense.tolist()


def test_damaged_csr_pieces_are_refused(tmp_path):
    spec = write(
        tmp_path,
        x_train_data=[1.0],
        x_train_indices=[9],
        x_train_indptr=[0, 1],
        x_train_shape=[1, 3],
        y_train=[0],
    )
    with pytest.raises(InputError, match="no CSR matrix"):
        load_dataset(spec, tmp_path)


def test_npz_reports_every_missing_array(tmp_path):
    spec = write(tmp_path, x_a=np.zeros((2, 3)), x_b=np.zeros((2, 3)), y_c=[0])
    with pytest.raises(InputError) as error:
        load_dataset(spec, tmp_path)
    assert [problem.split("'")[1] for problem in error.value.problems] == ["y_a", "y_b"]


def test_npz_without_any_rows_says_what_it_holds(tmp_path):
    with pytest.raises(InputError, match="holds jpeg, off; it must hold x_train and y_train"):
        load_dataset(write(tmp_path, jpeg=[1], off=[2]), tmp_path)


def test_test_rows_without_training_rows_are_refused(tmp_path):
    spec = write(tmp_path, x_a=np.zeros((2, 3)), y_a=[0, 1], x_b_test=np.zeros((2, 3)), y_b_test=[0, 1])
    with pytest.raises(InputError, match="x_b_test without x_b_train"):
        load_dataset(spec, tmp_path)


def test_pickles_are_never_loaded(tmp_path):
    spec = write(tmp_path, x_train=np.array([{}, {}], dtype=object), y_train=[0, 1])
    with pytest.raises(InputError, match="pickled objects, which are never loaded"):
        load_dataset(spec, tmp_path)
    (tmp_path / "p.npz").write_bytes(pickle.dumps({"x_train": 1}))
    with pytest.raises(InputError, match="cannot be read as an npz file"):
        load_dataset("npz:p.npz", tmp_path)


def test_damaged_files_are_refused(tmp_path):
    write(tmp_path, "c.npz", x_train=np.random.default_rng(0).random((200, 30)), y_train=np.zeros(200, int))
    whole = bytearray((tmp_path / "c.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(whole[:500])
    with pytest.raises(InputError, match="cannot be read as an npz file"):
        load_dataset("npz:cut.npz", tmp_path)
    whole[2000:2050] = bytes(50)
    (tmp_path / "bad.npz").write_bytes(whole)
    with pytest.raises(InputError, match="'x_train' is damaged"):
        load_dataset("npz:bad.npz", tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="a single array"):
        load_dataset("npz:one.npy", tmp_path)


def test_a_missing_file_names_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKT_DATA", str(tmp_path / "env"))
    with pytest.raises(InputError) as error:
        load_dataset("npz:no.npz", tmp_path / "given")
    for place in (tmp_path / "given", tmp_path / "env", Path("data")):
        assert str(place / "no.npz") in str(error.value)


def test_files_are_found_in_the_given_folder_first(tmp_path, monkeypatch):
    for name, label in (("given", 1), ("env", 2)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, x_train=np.zeros((2, 3)), y_train=[0, label])
    monkeypatch.setenv("FEDKT_DATA", str(tmp_path / "env"))
    assert load_dataset("npz:a.npz", tmp_path / "given").classes == 2
    assert load_dataset("npz:a.npz").classes == 3


def test_natural_ids_of_npz(tmp_path):
    spec = write(tmp_path, x_train=np.zeros((2, 3)), y_train=[0, 1], writer_train=[7, 8])
    split = load_dataset(spec, tmp_path, column="writer")
    assert split.train.ids is not None
    assert split.train.ids.tolist() == ["7", "8"]
    with pytest.raises(InputError, match="lacks array 'pen_train'"):
        load_dataset(spec, tmp_path, column="pen")


def test_a_mapping_of_domains_keeps_its_order_and_names_both_shapes(tmp_path):
    write(tmp_path, "z.npz", x_train=np.full((2, 4, 4), 153, np.uint8), y_train=[0, 1])
    write(tmp_path, "c.npz", x_train=np.full((2, 6, 6, 3), 204, np.uint8), y_train=[0, 1])
    spec = {"z": "npz:z.npz", "c": "npz:c.npz"}
    with pytest.raises(InputError, match="domain 'z' are 4x4 grey but those of 'c' 6x6 colour; data"):
        load_dataset(spec, tmp_path)
    split = load_dataset(spec, tmp_path, Image(size=5, channels=3))
    assert split.train.domain is not None
    assert split.train.domain.tolist() == ["z", "z", "c", "c"]
    assert (split.train.shape, split.train.x.dtype) == ((3, 5, 5), np.uint8)
    assert np.unique(split.train.x[:2]).tolist() == [153]
    assert np.unique(split.train.x[2:]).tolist() == [204]


def test_domains_of_different_kinds_are_all_named(tmp_path):
    write(tmp_path, "i.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=[0, 1])
    write(tmp_path, "t.npz", x_train=np.zeros((2, 4)), y_train=[0, 1])
    with pytest.raises(InputError) as error:
        load_dataset({"i": "npz:i.npz", "t": "npz:t.npz", "w": "npz:i.npz", "u": "npz:t.npz"}, tmp_path)
    assert len(error.value.problems) == 2


def test_functions_return_arrays_or_a_split():
    split = load_dataset(f"{MODULE}:with_domains")
    assert split.train.domain is not None
    assert (split.test, split.classes, split.train.domain.tolist()) == (None, 2, ["a", "a", "b", "b"])
    assert load_dataset(f"{MODULE}:with_folder").train.y.tolist() == [0, 1]
    assert load_dataset(f"{MODULE}:with_folder", Path("x")).train.y.tolist() == [1, 0]
    assert load_dataset(f"{MODULE}:a_split").test is not None
    for name, words in (("nonsense", "must return x, y"), ("NOT_A_FUNCTION", "must be a function")):
        with pytest.raises(InputError, match=words):
            load_dataset(f"{MODULE}:{name}")


def test_words_become_stable_hashes():
    def id_of(word: str) -> int:
        return 1 + zlib.crc32(word.encode()) % 19_999

    tokens = tokenise(["Good, good film", "", "film \ue000!"], length=4)
    assert tokens.tolist() == [
        [id_of("good"), id_of(","), id_of("good"), id_of("film")],
        [0, 0, 0, 0],
        [id_of("film"), id_of("\ue000"), id_of("!"), 0],
    ]
    assert tokenise(["a b c d e"], length=3).tolist() == [[id_of("a"), id_of("b"), id_of("c")]]
    assert tokenise(["", ""], length=1).tolist() == [[0], [0]]


def test_largest_remainders():
    assert apportion(10, np.array([1.0, 1.0, 1.0])).tolist() == [4, 3, 3]
    assert apportion(5, np.array([0.5, 0.3, 0.2])).tolist() == [3, 1, 1]


def test_stratified_draws_each_class_in_proportion():
    labels = np.array([0] * 8 + [1] * 4)
    drawn = stratified(labels, 3, np.random.default_rng(0))
    assert labels[drawn].tolist() == [0, 0, 1]
    assert np.all(np.diff(drawn) > 0)
    assert stratified(labels, 0, np.random.default_rng(0)).tolist() == []


def test_hub_folders_of_text_tables_and_images(tmp_path):
    from datasets import ClassLabel, DatasetDict, Features, Value
    from datasets import Dataset as Table
    from datasets import Image as Picture

    named = Features(
        {"idx": Value("int32"), "sentence": Value("string"), "label": ClassLabel(names=["n", "p", "q"])}
    )
    rows = {"idx": [0, 1], "sentence": ["good film", "bad"], "label": [1, 0]}
    unlabelled = {**rows, "label": [-1, -1]}
    DatasetDict(
        train=Table.from_dict(rows, named),
        test=Table.from_dict(unlabelled, named),
        validation=Table.from_dict(rows, named),
    ).save_to_disk(tmp_path / "text")
    split = load_dataset(f"hf:{tmp_path / 'text'}")
    assert split.test is not None
    assert (split.train.kind, split.classes, split.test.y.tolist()) == ("tokens", 3, [1, 0])

    Table.from_dict(
        {"age": [1, 2, 3], "bmi": [0.5, 1.5, 2.5], "site": ["u", "v", "u"], "y": ["no", "yes", "no"]}
    ).save_to_disk(tmp_path / "table")
    split = load_dataset("hf:table", tmp_path, column="site")
    assert split.train.ids is not None
    assert split.train.x.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert (split.train.y.tolist(), split.train.ids.tolist()) == ([0, 1, 0], ["u", "v", "u"])
    with pytest.raises(InputError, match="no column 'city'"):
        load_dataset("hf:table", tmp_path, column="city")

    pictures = 200 + np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    shown = Features({"picture": Picture(), "label": Value("int64")})
    Table.from_dict({"picture": list(pictures), "label": [0, 1]}, shown).save_to_disk(tmp_path / "image")
    split = load_dataset("hf:image", tmp_path)
    assert split.train.x.tolist() == pictures[:, None].tolist()


def test_hub_data_without_labels_or_rows_is_refused(tmp_path):
    from datasets import Dataset as Table

    Table.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "no_label")
    Table.from_dict({"y": [0, 1]}).save_to_disk(tmp_path / "no_rows")
    with pytest.raises(InputError, match="ClassLabel"):
        load_dataset("hf:no_label", tmp_path)
    with pytest.raises(InputError, match="images, texts or numbers"):
        load_dataset("hf:no_rows", tmp_path)


def test_an_unreachable_hub_is_the_users_to_solve(monkeypatch):
    import datasets

    def fail(*_):
        raise ConnectionError("no route.")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"hf:a/b:c cannot be loaded \(ConnectionError: no route\)"):
        load_dataset("hf:a/b:c")


@pytest.mark.data
@pytest.mark.skipif("FEDKT_DATA" not in os.environ, reason="FEDKT_DATA is not set")
@pytest.mark.parametrize(
    ("name", "kind", "shape", "train", "test"),
    [
        ("mnist.npz", "image", (1, 28, 28), 60000, 10000),
        ("office_caltech10_surf.npz", "tabular", (800,), 2533, None),
        ("amazon_reviews_bow5000.npz", "sparse", (5000,), 8000, 19677),
        ("heart_disease_4sites.npz", "tabular", (13,), 920, None),
        ("sst2_sentences.npz", "tokens", (128,), 6920, 1821),
    ],
)
def test_real_files(name, kind, shape, train, test):
    split = load_dataset(f"npz:{name}")
    assert (split.train.kind, split.train.shape, len(split.train)) == (kind, shape, train)
    assert (None if split.test is None else len(split.test)) == test
