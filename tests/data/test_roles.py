"""Rows in two roles: compared by what they hold, whatever the data sets are called, in every loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from fedkt.data import Federation, build
from fedkt.data.content.same_rows import occurring, row_hashes
from fedkt.data.own import Sources, build_own
from fedkt.data.sets.dataset import Dataset, Split, dataset_of
from fedkt.errors import InputError
from fedkt.scenario import Scenario

MODULE = __name__
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 2
OTHER = rng.normal(size=(60, 5)).astype(np.float32)


def the_rows():
    return X, Y


def its_second_half():
    return X[30:], Y[30:]


def its_test_rows():
    """Another data set's training rows are the test rows of this one."""
    return Split(dataset_of("", X, Y), dataset_of("", OTHER[:10], Y[:10]), 2)


def those_test_rows():
    return OTHER[:20], Y[:20]


def write(folder: Path, name: str, x: Any, **more: Any) -> str:
    np.savez(folder / f"{name}.npz", x_train=x, y_train=Y[: x.shape[0]], **more)
    return f"npz:{name}.npz"


def federation(folder: Path | None = None, **data: Any) -> Federation:
    given = {"partition": {"kind": "iid", "clients": 2}, **data}
    return build(Scenario.model_validate({"name": "t", "data": given}), folder)


def refused(folder: Path, **data: Any) -> str:
    with pytest.raises(InputError) as error:
        federation(folder, **data)
    assert len(error.value.problems) == 1
    return error.value.problems[0]


# Test rows that are training rows --------------------------------------------------------


@pytest.mark.parametrize("spelling", ["npz:a.npz", "npz:./a.npz", "npz:sub/../a.npz", "npz:copy.npz"])
def test_the_private_set_is_no_test_set_however_it_is_spelt(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "copy", X)
    told = refused(tmp_path, dataset=write(tmp_path, "a", X), test=spelling)
    assert told.startswith("60 of the 60 test rows of data.test are training rows too, by their values; ")


def test_a_domain_that_trains_is_no_test_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_a=X, y_a=Y, x_b=OTHER, y_b=Y)
    domain = {"partition": {"kind": "domain"}}
    # Of 60 rows a fifth is held out for each domain's own test: 48 train.
    for dataset in ("npz:d.npz", {"one": "npz:d.npz#a", "two": "npz:d.npz#b"}):
        told = refused(tmp_path, dataset=dataset, test="npz:d.npz#b", **domain)
        assert told.startswith("48 of the 60 test rows of data.test are training rows too")
    left_out = federation(tmp_path, dataset={"one": "npz:d.npz#a"}, test="npz:d.npz#b", **domain)
    assert left_out.notes == ()


def test_a_function_s_rows_are_known_by_what_they_are(tmp_path: Path) -> None:
    told = refused(tmp_path, dataset=f"{MODULE}:the_rows", test=f"{MODULE}:its_second_half")
    assert told.startswith("30 of the 30 test rows of data.test are training rows too")
    told = refused(tmp_path, dataset=write(tmp_path, "a", X), test=f"{MODULE}:its_second_half")
    assert told.startswith("30 of the 30")


def test_a_hugging_face_table_s_rows_are_known_by_what_they_are(tmp_path: Path) -> None:
    from datasets import Dataset as Table

    columns = {f"c{i}": X[:40, i] for i in range(5)}
    Table.from_dict({**columns, "y": Y[:40]}).save_to_disk(tmp_path / "table")
    told = refused(tmp_path, dataset=write(tmp_path, "a", X), test="hf:table")
    assert told.startswith("40 of the 40 test rows of data.test are training rows too")


def test_two_domains_of_the_same_rows_test_each_other_on_training_rows(tmp_path: Path) -> None:
    """Domain a's fifth that is held out is b's training rows, where b's own fifth is another."""
    spec = write(tmp_path, "a", X)
    told = refused(tmp_path, dataset={"a": spec, "b": spec}, partition={"kind": "domain"})
    assert "test rows of data.dataset are training rows too" in told


def test_what_is_meant_is_reported_with_its_size(tmp_path: Path) -> None:
    found = federation(tmp_path, dataset=write(tmp_path, "a", X), test="npz:./a.npz", overlap="report")
    assert found.notes == ("60 of the 60 test rows of data.test are training rows too (same values).",)


def test_what_one_source_holds_twice_is_reported(tmp_path: Path) -> None:
    spec = write(tmp_path, "a", X, x_test=np.concatenate([X[:7], OTHER[:13]]), y_test=Y[:20])
    found = federation(tmp_path, dataset=spec)
    assert found.notes == ("7 of the 20 test rows of data.dataset are training rows too (same values).",)


# Transfer and public rows that are private or test rows ----------------------------------


@pytest.mark.parametrize("name", ["transfer", "public"])
def test_common_rows_are_no_private_rows(tmp_path: Path, name: str) -> None:
    spec = write(tmp_path, "a", X)
    for other in ("npz:a.npz", "npz:./a.npz"):
        told = refused(tmp_path, dataset=spec, **{name: {"from": other, "size": 9}})
        assert told.startswith(f"data.{name}.from names the private data set itself; it must be 'train'")
    write(tmp_path, "some", np.concatenate([X[:1], OTHER[:59]]))
    told = refused(tmp_path, dataset=spec, **{name: {"from": "npz:some.npz", "size": 60}})
    assert told.startswith(f"1 of the 60 {name} rows of data.{name}.from are ")
    np.savez(tmp_path / "d.npz", x_a=X, y_a=Y, x_b=OTHER, y_b=Y)
    with pytest.raises(InputError) as error:
        by_domain = {"dataset": "npz:d.npz", "partition": {"kind": "domain"}}
        federation(tmp_path, **by_domain, **{name: {"from": "npz:d.npz#b", "size": 60}})
    # A fifth of the domain is held out for its own test.
    assert [problem.split(" rows too")[0].split(", by")[0] for problem in error.value.problems] == [
        f"48 of the 60 {name} rows of data.{name}.from are training",
        f"12 of the 60 {name} rows of data.{name}.from are test rows of data.dataset too",
    ]


def test_rows_that_audition_are_no_private_rows_in_a_simulation_nor_at_a_site(tmp_path: Path) -> None:
    spec = write(tmp_path, "a", X)
    write(tmp_path, "half", np.concatenate([X[:30], OTHER[:30]]))
    write(tmp_path, "none", OTHER)
    data = {
        "dataset": spec,
        "partition": {"kind": "iid", "clients": 2},
        "transfer": {"audition": ["npz:half.npz", "npz:none.npz"], "size": 60},
    }
    scenario = Scenario.model_validate({"name": "t", "data": data})
    found = []
    for made in (
        lambda: build(scenario, tmp_path),
        lambda: build_own("a", Sources(tmp_path, spec, classes=2), scenario),
    ):
        with pytest.raises(InputError) as error:
            made()
        found.append(error.value.problems[0])
    assert all("transfer rows of data.transfer.audition are" in told for told in found)


def test_common_rows_are_no_test_rows(tmp_path: Path) -> None:
    spec, test = write(tmp_path, "a", X), f"{MODULE}:those_test_rows"
    write(tmp_path, "o", OTHER)
    told = refused(tmp_path, dataset=spec, test=test, transfer={"from": "npz:o.npz", "size": 60})
    assert told.startswith(
        "20 of the 60 transfer rows of data.transfer.from are test rows of data.test too, by their values"
    )
    own = f"{MODULE}:its_test_rows"
    told = refused(tmp_path, dataset=own, public={"from": "npz:o.npz", "size": 60})
    assert told.startswith("10 of the 60 public rows of data.public.from are test rows of data.dataset too")


def test_one_set_spelt_in_two_ways_is_drawn_from_once(tmp_path: Path) -> None:
    """As where both are spelt alike: no row is drawn twice, and the rest is the test."""
    write(tmp_path, "o", OTHER)
    write(tmp_path, "copy", OTHER)
    found = federation(
        tmp_path,
        dataset=write(tmp_path, "a", X),
        test="npz:./o.npz",
        transfer={"from": "npz:o.npz", "size": 25},
        public={"from": "npz:copy.npz", "size": 15},
    )
    assert found.test is not None and found.transfer is not None and found.public is not None
    drawn = [set(row_hashes(part.x).tolist()) for part in (found.test, found.transfer, found.public)]
    assert [len(rows) for rows in drawn] == [20, 25, 15]
    assert len(set().union(*drawn)) == 60


# What equal rows are ---------------------------------------------------------------------


def test_pictures_are_the_same_as_bytes_and_as_fractions_and_at_another_size(tmp_path: Path) -> None:
    pictures = rng.integers(0, 256, (20, 6, 6)).astype(np.uint8)
    spec = write(tmp_path, "bytes", pictures)
    write(tmp_path, "fractions", (pictures / 255).astype(np.float32))
    told = refused(tmp_path, dataset=spec, test="npz:fractions.npz")
    assert told.startswith("20 of the 20 test rows")
    # Domains that are brought to one size, against one of them as it lies in its file.
    write(tmp_path, "large", rng.integers(0, 256, (20, 9, 9, 3)).astype(np.uint8))
    told = refused(
        tmp_path,
        dataset={"a": spec, "b": "npz:large.npz"},
        image={"size": 5, "channels": 3},
        partition={"kind": "domain"},
        test=spec,
    )
    assert told.startswith("16 of the 20 test rows")


def test_texts_and_sparse_rows_are_compared_too(tmp_path: Path) -> None:
    texts = np.array([f"word{i} text" for i in range(40)])
    told = refused(tmp_path, dataset=write(tmp_path, "t", texts), test="npz:./t.npz")
    assert told.startswith("40 of the 40")
    x = sparse.random(40, 30, 0.3, format="csr", random_state=1)
    for name, shuffle in (("s", slice(None)), ("r", slice(None, None, -1))):
        rows = x[np.arange(40)[shuffle]]
        pieces = {f"x_train_{p}": getattr(rows, p) for p in ("data", "indices", "indptr")}
        np.savez(tmp_path / f"{name}.npz", x_train_shape=rows.shape, y_train=Y[:40], **pieces)
    assert refused(tmp_path, dataset="npz:s.npz", test="npz:r.npz").startswith("40 of the 40")


def test_rows_of_nothing_are_nobody_s(tmp_path: Path) -> None:
    """Two corpora may both hold an empty text."""
    one, two = np.array([f"a{i}" for i in range(39)] + [""]), np.array([f"b{i}" for i in range(39)] + [""])
    assert federation(tmp_path, dataset=write(tmp_path, "t", one), test=write(tmp_path, "u", two)).notes == ()


def test_equal_values_have_equal_hashes() -> None:
    nan = np.array([[0.0, np.nan]], np.float32)
    same = np.array([[-0.0, np.uint32(0x7FC00001)]], np.float32)
    same[0, 1] = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    assert row_hashes(nan) == row_hashes(same)
    assert row_hashes(np.array([[0, 1]])) != row_hashes(np.array([[1, 0]]))
    dense = np.array([[0, 2.0, 0, 1.0]], np.float32)
    unsorted = sparse.csr_matrix((np.array([1, 2, 0], np.float32), [3, 1, 0], [0, 3]), shape=(1, 4))
    assert row_hashes(sparse.csr_matrix(dense)) == row_hashes(unsorted)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_the_sieve_finds_what_comparing_all_pairs_finds(dtype: str) -> None:
    """Few values, so that many rows are equal: 2000 against 300 rows of 3 columns."""
    x, part = rng.integers(0, 9, (2000, 3)).astype(dtype), rng.integers(0, 9, (300, 3)).astype(dtype)
    among = rng.random(2000) < 0.5
    (hashes,), rows, own = occurring([part], x, among)
    expected = {tuple(row) for row in x[among].tolist()}
    assert np.isin(hashes, own).tolist() == [tuple(row) in expected for row in part.tolist()]
    assert among[rows].all()


# At a site -------------------------------------------------------------------------------


def at_site(folder: Path, **sources: Any) -> Federation:
    scenario = Scenario.model_validate({"name": "t", "data": {"dataset": "digits"}})
    return build_own("zurich", Sources(folder, **sources), scenario)


def test_a_site_s_rows_are_compared_with_what_is_common(tmp_path: Path) -> None:
    rows = write(tmp_path, "rows", X)
    for key, what in (("test", "test"), ("transfer", "transfer"), ("public", "public")):
        with pytest.raises(InputError) as error:
            at_site(tmp_path, rows=rows, **{key: "npz:./rows.npz"})
        assert f"of the 60 {what} rows of data.{key} are training rows too" in str(error.value)
    with pytest.raises(InputError, match=r"20 of the 60 transfer rows .* are test rows of data\.test"):
        write(tmp_path, "o", OTHER)
        at_site(tmp_path, rows=rows, test=f"{MODULE}:those_test_rows", transfer="npz:o.npz")
    found = at_site(tmp_path, rows=rows, test=rows, overlap="report")
    assert found.notes == ("60 of the 60 test rows of data.test are training rows too (same values).",)


# Rows that are nobody's ------------------------------------------------------------------


def a_domain_is_missing():
    return X, Y, [None if i == 4 else "a" for i in range(60)]


def a_masked_domain():
    names = np.ma.MaskedArray(["a"] * 60, mask=[i < 2 for i in range(60)])
    return X, Y, names


def ids_of_its_own():
    return Split(Dataset(X, Y, None, "tabular", np.array(["w"] * 59 + ["nan"])), None, 2)


@pytest.mark.parametrize("ids", [[1.0, np.nan, 3.0], ["a", "nan", "c"], ["a", "", "c"], ["a", "None", "c"]])
def test_no_client_is_called_nan(tmp_path: Path, ids: list[Any]) -> None:
    np.savez(tmp_path / "a.npz", x_train=X[:3], y_train=Y[:3], writer_train=np.array(ids))
    told = refused(tmp_path, dataset="npz:a.npz", partition={"kind": "natural-id", "column": "writer"})
    assert told.startswith(
        "data.dataset: npz:a.npz: train: ids is missing in 1 of 3 rows (first: row 1); each row must say"
    )


def test_domains_and_ids_of_functions_and_tables_are_looked_at(tmp_path: Path) -> None:
    from datasets import Dataset as Table

    domain = {"partition": {"kind": "domain"}}
    told = refused(tmp_path, dataset=f"{MODULE}:a_domain_is_missing", **domain)
    assert "domain is missing in 1 of 60 rows (first: row 4)" in told
    told = refused(tmp_path, dataset=f"{MODULE}:a_masked_domain", **domain)
    assert "domain is missing in 2 of 60 rows (first: row 0)" in told
    own = {"partition": {"kind": "natural-id"}}
    assert refused(tmp_path, dataset=f"{MODULE}:ids_of_its_own", **own).startswith("1 of ")
    Table.from_dict({"a": [1.0, 2.0, 3.0], "who": ["u", None, "v"], "y": [0, 1, 0]}).save_to_disk(
        tmp_path / "table"
    )
    by_column = {"partition": {"kind": "natural-id", "column": "who"}}
    assert "is missing in 1 of 3 rows (first: row 1)" in refused(tmp_path, dataset="hf:table", **by_column)


# Siblings: one file in two types, other words for a missing id --------------------------


@pytest.mark.parametrize("setting", ["test", "public", "transfer"])
def test_one_table_in_two_types_is_one(tmp_path: Path, setting: str) -> None:
    """Float32 as float64, and as a CSV file writes and reads it: 0.1 as float32 is not 0.1 as float64."""
    write(tmp_path, "a", X)
    write(tmp_path, "wide", X.astype(np.float64))
    read_again = np.array([[float(str(value)) for value in row] for row in X])
    assert (read_again != X).any() and (read_again.astype(np.float32) == X).all()
    write(tmp_path, "csv", read_again)
    for name in ("wide", "csv"):
        spec: Any = f"npz:{name}.npz" if setting == "test" else {"from": f"npz:{name}.npz", "size": 20}
        words = (
            "48 of the 60 test rows of data.test are training rows too"
            if setting == "test"
            else f"data.{setting}.from names the private data set itself"
        )
        if setting != "test":
            assert words in refused(tmp_path, dataset="npz:a.npz", **{setting: spec})
        else:
            held = federation(tmp_path, dataset="npz:a.npz", test=spec, overlap="report")
            assert "60 of the 60 test rows of data.test are training rows too (same values)." in held.notes


def test_wide_numbers_are_compared_as_wide_as_both_are(tmp_path: Path) -> None:
    """Two tables of float64 whose rows differ beyond float32 alone are two."""
    time = 1.7e9 + np.arange(120) / 64
    rows = np.stack([time, np.zeros(120)], axis=1)
    assert len(np.unique(rows.astype(np.float32), axis=0)) < 4
    write(tmp_path, "a", rows[:60])
    write(tmp_path, "b", rows[60:])
    assert not any("too" in n for n in federation(tmp_path, dataset="npz:a.npz", test="npz:b.npz").notes)


def test_public_rows_that_are_transfer_rows_are_reported(tmp_path: Path) -> None:
    write(tmp_path, "a", X)
    write(tmp_path, "b", OTHER)
    write(tmp_path, "half", OTHER[:30])
    common = {"transfer": {"from": "npz:b.npz", "size": 60}, "public": {"from": "npz:half.npz", "size": 20}}
    notes = federation(tmp_path, dataset="npz:a.npz", **common).notes
    told = "20 of the 20 public rows of data.public.from are transfer rows of data.transfer.from too"
    assert f"{told} (same values)." in notes


@pytest.mark.parametrize("word", ["NULL", "N/A", "n/a", "#N/A"])
def test_other_words_for_a_missing_id(tmp_path: Path, word: str) -> None:
    spec = write(tmp_path, "a", X, who_train=np.array([word, *"abcde" * 11, *"abcd"]))
    told = refused(tmp_path, dataset=spec, partition={"kind": "natural-id", "column": "who"})
    assert "ids is missing in 1 of 60 rows (first: row 0)" in told
