"""Tables and folders as people have them: CSV, Parquet, pictures, categories, sites, stated whites."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset as Table
from PIL import Image
from typer.testing import CliRunner

import fedkt
from fedkt import data, scenario
from fedkt.cli.commands import app
from fedkt.data.columns.choices import Choices
from fedkt.data.own import Sources, build_own
from fedkt.data.sets.reading import load_dataset
from fedkt.errors import InputError

ROWS = 60


def frame(seed: int = 0) -> pd.DataFrame:
    """Patients of two hospitals; row 3 has no sex, row 4 no dose."""
    rng = np.random.default_rng(seed)
    sick = np.arange(ROWS) % 2
    made = pd.DataFrame(
        {
            "age": rng.integers(20, 90, ROWS),
            "dose": (rng.normal(0, 1, ROWS) + 2 * sick).round(4),
            "sex": rng.choice(["f", "m"], ROWS),
            "ward": rng.choice(["1", "2", "10"], ROWS),
            "hospital": np.where(np.arange(ROWS) % 3 == 0, "east", "west"),
            "sick": np.where(sick == 1, "ill", "well"),
        }
    )
    made.loc[3, "sex"] = None
    made.loc[4, "dose"] = np.nan
    return made


def described(**more: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"dataset": "csv:p.csv", "label": "sick", "site": "hospital", "missing": "mean"}
    about |= {"partition": {"kind": "natural-id"}, "transfer": {"from": "train", "size": 10}}
    about |= {"categories": {"sex": ["f", "m"], "ward": "transfer"}} | more
    return {
        "name": "p",
        "data": about,
        "clients": {"models": "tabular", "local": {"epochs": 1}},
        "rounds": 1,
        "engine": {"kind": "inline"},
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the table as CSV, with semicolons, and as Parquet."""
    monkeypatch.chdir(tmp_path)
    frame().to_csv("p.csv", index=False)
    frame().to_csv("semi.csv", index=False, sep=";")
    frame().astype({"sex": "category"}).to_parquet("p.parquet", index=False)
    return tmp_path


def test_one_table_is_the_same_from_every_source(here: Path) -> None:
    (here / "mine.py").write_text(
        "import pandas\ndef table():\n    return pandas.read_csv('p.csv', dtype={'ward': str})\n"
    )
    specs = ("csv:p.csv", "csv:semi.csv", "parquet:p.parquet", "mine:table")
    made = [data.build(scenario.load(described(dataset=spec))) for spec in specs]
    first = made[0]
    assert first.pool.columns == ("age", "dose", "sex=f", "sex=m", "ward=1", "ward=2", "ward=10")
    assert first.label_names == ("ill", "well") and [shard.domain for shard in first.shards] == [
        "east",
        "west",
    ]
    for other in made[1:]:
        assert other.pool.columns == first.pool.columns and other.transfer_hash == first.transfer_hash
        np.testing.assert_array_equal(other.pool.x, first.pool.x)
    table, x = frame(), first.pool.x
    np.testing.assert_array_equal(x[:, 2], table["sex"] == "f")
    assert x[3, 2:4].tolist() == [0, 0]  # a blank is none of the values
    np.testing.assert_array_equal(x[:, 6], table["ward"] == "10")
    assert np.isnan(x[4, 1])


def test_values_come_from_where_the_scenario_says(here: Path) -> None:
    known = data.build(scenario.load(described(categories={"sex": ["m"], "ward": [10, 1]})))
    assert known.pool.columns == ("age", "dose", "sex=m", "ward=10", "ward=1")
    odd = [note for note in known.notes if "does not know" in note]
    wards, women = int((frame()["ward"] == "2").sum()), int((frame()["sex"] == "f").sum())
    assert odd == [
        f"data.dataset: column {column} holds {value} in {rows} rows, which data.categories does not know: 0 "
        "in all its columns."
        for column, value, rows in (("'sex'", "'f'", women), ("'ward'", "'2'", wards))
    ]
    # Of one transfer row only its own values are known; of all rows, all.
    one = described(transfer={"from": "train", "size": 1}, categories={"sex": "train", "ward": "transfer"})
    few = data.build(scenario.load(one))
    assert few.pool.columns is not None and few.transfer is not None
    assert few.pool.columns[2:4] == ("sex=f", "sex=m") and len(few.pool.columns) == 5
    assert few.transfer.x[0, 4] == 1


def test_a_vocabulary_is_never_learned_from_private_rows_in_a_private_mode(here: Path) -> None:
    from fedkt.engine.checks.checked import checked_world

    private = described(categories={"sex": "train", "ward": "transfer"})
    private["strategy"] = "fedmd"
    private["privacy"] = {"mode": "dpsgd", "delta": 1e-5, "target_epsilon": 8}
    with pytest.raises(
        InputError, match=r"data\.categories\.sex is learned from private rows, which privacy mode"
    ):
        checked_world(scenario.load(private), here)


def test_a_run_says_what_it_read_and_its_model_takes_the_table_as_it_is(here: Path) -> None:
    (here / "s.yaml").write_text(json.dumps(described()))
    shown = CliRunner().invoke(app, ["show", "s.yaml"]).stdout
    assert "ward    one of 3  1, 2, 10" in shown and "labels: 0 ill, 1 well" in shown
    run = fedkt.simulate(described(), out="run")
    from fedkt.results.export import export

    export(run.path, "1", here / "model", "last")
    model = fedkt.load_model(here / "model")
    table = frame().astype({"ward": int})
    assert model.prepare is not None
    rows = model.prepare(table[["ward", "sex", "dose", "age"]])
    held = data.build(scenario.load(described()))
    np.testing.assert_allclose(rows, held.preprocess.tensor(held.pool.x, held.statistics(held.shards[1])))


def test_one_file_for_each_site(here: Path) -> None:
    """Each lacks a value that the other has, and has its columns in another order."""
    table = frame().drop(columns="hospital")
    table[table["ward"] != "2"].to_csv("a.csv", index=False)
    table[table["ward"] == "2"][table.columns[::-1]].to_csv("b.csv", index=False)
    both = described(dataset={"a": "csv:a.csv", "b": "csv:b.csv"}, partition={"kind": "domain"})
    del both["data"]["site"]
    made = data.build(scenario.load(both))
    assert [shard.id for shard in made.shards] == ["a", "b"]
    assert made.pool.columns is not None and "ward=2" in made.pool.columns
    table.rename(columns={"dose": "mg"}).to_csv("b.csv", index=False)
    with pytest.raises(
        InputError, match="domain 'b' lacks dose and has mg beside, compared with the columns of"
    ):
        data.build(scenario.load(both))
    both["data"]["site"] = "hospital"
    with pytest.raises(InputError, match="a mapping, whose names are the sites; one must be left out"):
        data.build(scenario.load(both))


def several() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(0, 1, (20, 3)), columns=["low", "age", "high"])
    return made.assign(fever=(made["low"] > 0).astype(int), cough=(made["high"] > 0).astype(int))


@pytest.mark.parametrize("spec", ["csv:t.csv", "parquet:t.parquet", "hf:t", f"{__name__}:several"])
def test_several_columns_are_labels_or_numbers_to_predict(tmp_path: Path, spec: str) -> None:
    several().to_csv(tmp_path / "t.csv", index=False)
    several().to_parquet(tmp_path / "t.parquet")
    Table.from_pandas(several()).save_to_disk(str(tmp_path / "t"))
    drop = ("low", "high")
    ill = load_dataset(
        spec, tmp_path, choices=Choices(("cough", "fever"), task="multilabel", drop=drop)
    ).train
    assert (ill.label_names, ill.columns) == (("cough", "fever"), ("age",))
    assert ill.y.tolist() == several()[["cough", "fever"]].values.tolist()
    numbers = Choices(("high", "low"), task="regression", ranges=((-10, 10), (-5, 5)))
    pressure = load_dataset(spec, tmp_path, choices=numbers).train
    assert (pressure.label_names, pressure.columns) == (("high", "low"), ("age", "fever", "cough"))
    np.testing.assert_allclose(pressure.y * [10, 5], several()[["high", "low"]].values, rtol=1e-6)
    for label, words in (
        (("cough", "fver"), "has no column 'fver', which data.label names"),
        (("cough", "low"), "each label must be 0 or 1"),
    ):
        with pytest.raises(InputError, match=words):
            load_dataset(spec, tmp_path, choices=Choices(label, task="multilabel"))
    # Rows whose labels nobody reads need not have them, and none of them is a feature.
    common = load_dataset(spec, tmp_path, choices=Choices(("cough", "x"), task="multilabel").unlabelled).train
    assert "cough" not in (common.columns or ()) and (common.y == -1).all()


def test_a_class_has_one_column_and_names_of_columns_are_told_once(here: Path) -> None:
    for change, words in (
        ({"label": ["sick", "dose"]}, "a row has one class; data.task must be multilabel or regression"),
        ({"label": ["sick", "sick"], "task": "multilabel"}, "names 'sick' twice; name it once"),
    ):
        with pytest.raises(InputError, match=words):
            scenario.from_dict(described(**change))


def test_a_frame_from_python_may_have_several_columns_of_labels(tmp_path: Path) -> None:
    small = [
        "data.partition={kind: iid, clients: 2}",
        "rounds=1",
        "engine.kind=inline",
        "data.task=multilabel",
    ]
    told = fedkt.simulate(data=(several(), ["cough", "fever"]), overrides=small, out=tmp_path / "run")
    assert json.loads((tmp_path / "run/model-input.json").read_text())["labels"] == ["cough", "fever"]
    assert told.summary["metric"]["name"] == "mean_average_precision"
    with pytest.raises(InputError, match="no column 'cold'"):
        fedkt.simulate(
            {"name": "x", "data": {"label": ["cough", "cold"], "task": "multilabel"}}, data=several()
        )


def test_a_site_reads_its_own_table(here: Path) -> None:
    table = frame()
    table[table["hospital"] == "west"].to_csv("rows.csv", index=False)
    table[table["hospital"] == "east"].drop(columns="sick").to_csv("t.csv", index=False)
    made = scenario.load(described(labels=["ill", "unsure", "well"], site=None, drop=["hospital"]))
    own = build_own("west", Sources(here, "csv:rows.csv", transfer="csv:t.csv", classes=3), made)
    assert own.label_names == ("ill", "unsure", "well") and own.pool.columns == own.transfer.columns  # type: ignore[union-attr]
    table.assign(sick="other").to_csv("rows.csv", index=False)
    with pytest.raises(InputError, match=r"holds the label 'other', but data\.labels is ill, unsure, well"):
        build_own("west", Sources(here, "csv:rows.csv", transfer="csv:t.csv", classes=3), made)


def test_all_that_is_wrong_with_a_table_is_told_at_once(here: Path) -> None:
    frame().assign(hospital=["east", None] * 30, sick=[None, "ill"] * 30).to_csv("p.csv", index=False)
    for change in ({"categories": {"ward": ["1"]}}, {"columns": ["age", "sex", "ward"], "categories": {}}):
        (here / "bad.yaml").write_text(json.dumps(described(**change)))
        told = CliRunner().invoke(app, ["simulate", "bad.yaml", "--out", "run"])
        assert told.exit_code == 2 and not (here / "run").exists()
        wrong = told.stderr.splitlines()
        assert len(wrong) == 3
        assert "column 'sex'" in wrong[0] or "the columns 'sex'" in wrong[0]
        assert "the label is missing in 30 of 60 rows" in wrong[1]
        assert "column 'hospital', which data.site names, is missing in 30 of 60 rows" in wrong[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": {"ward": ["1"]}}, "column 'sex' (such as "),
        ({"site": "clinic"}, "has no column 'clinic', which data.site names"),
        ({"site": None, "drop": ["hospital"]}, "'natural-id' but the data has no natural ids"),
        ({"label": "illness"}, "has no column 'illness', which data.label names; valid names are"),
        (
            {"categories": {"sex": ["f"], "ward": ["1"], "race": ["x"]}},
            "has no column 'race', which data.categ",
        ),
        ({"columns": ["age", "sick"]}, "data.columns names 'sick', which says the label or whose a row is"),
        (
            {"label": "dose", "categories": {"sex": ["f"], "ward": ["1"], "sick": ["ill"]}},
            "the label is missing",
        ),
        ({"label": None, "site": "hospital"}, "has no plain label (of age, dose"),
    ],
)
def test_wrong_tables_are_one_sentence(here: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        data.build(scenario.load(described(**change)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty; it must have a line of names, then rows"),
        ("a,label\n", "has names of columns but no rows"),
        ("a,a,label\n1,2,0\n", "more than one column named 'a'"),
        ("a,label\n1,0\n1,2,3\n", "cannot be read as a table ("),
        ("a,label\n1,0.5\n2,1\n", "y holds 0.5; labels must be whole numbers"),
        ("a,h,label\n1,x,0\n2,,1\n", "column 'h', which data.site names, is missing in 1 of 2 rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(here: Path, content: str, words: str) -> None:
    (here / "bad.csv").write_text(content)
    site = "h" if ",h," in content.splitlines()[:1].__str__() else None
    with pytest.raises(InputError) as caught:
        load_dataset("csv:bad.csv", choices=Choices(site=site))
    assert words in str(caught.value) and len(caught.value.problems) == 1


def test_a_column_that_is_wider_further_down_is_read_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedkt.data.sets.flat_files.BLOCK", 64)
    lines = [f"{i},{i % 2}" for i in range(40)] + ["0.5,1", "x,0"]
    (here / "wide.csv").write_text("\n".join(["a,label", *lines]))
    with pytest.raises(InputError, match=r"column 'a' \(such as '0'\) holds no numbers"):
        load_dataset("csv:wide.csv", choices=Choices(columns=("a",), kind="table"))
    (here / "wide.csv").write_text("\n".join(["a,label", *lines[:-1]]))
    assert load_dataset("csv:wide.csv").train.x[-1, 0] == 0.5


def pictures(folder: Path, names: list[str], size: tuple[int, int] = (4, 4), top: int = 255) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, top + 1, size[::-1]).astype(np.uint16 if top > 255 else np.uint8)
        values[0, 0] = top
        Image.fromarray(values).save(folder / name)


def test_a_folder_for_each_class_and_one_for_each_site(here: Path) -> None:
    names = [f"{site}/{label}/{i}.png" for site in ("a", "b") for label in ("cat", "dog") for i in range(3)]
    pictures(here / "pets", names)
    (here / "pets/notes.txt").write_text("mine")
    split = load_dataset("images:pets")
    assert split.label_names == ("cat", "dog") and split.train.x.shape == (12, 1, 4, 4)
    assert split.train.domain is not None and split.train.domain.tolist() == ["a"] * 6 + ["b"] * 6
    assert split.left_out == (("notes.txt", "no picture"),)
    pictures(
        here / "halves", [f"{half}/{c}/{i}.jpg" for half in ("train", "test") for c in "xy" for i in (0, 1)]
    )
    halves = load_dataset("images:halves")
    assert halves.test is not None and len(halves.train) == len(halves.test) == 4
    # Of several sizes where the scenario gives one.
    pictures(here / "pets", ["a/cat/9.png"], size=(9, 5))
    with pytest.raises(InputError, match="pictures differ in size"):
        load_dataset("images:pets")
    shaped = load_dataset("images:pets", None, scenario.Image(size=6, channels=3))
    assert shaped.train.x.shape == (13, 3, 6, 6) and shaped.train.x.dtype == np.uint8


def test_a_picture_that_cannot_be_read_is_named(here: Path) -> None:
    pictures(here / "pets", ["cat/0.png", "dog/0.png"])
    (here / "pets/dog/1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"pets/dog/1.png cannot be read as a picture \(Unidentified"):
        load_dataset("images:pets")
    with pytest.raises(InputError, match="folder 'cats' was not found as "):
        load_dataset("images:cats")
    (here / "flat").mkdir()
    Image.new("L", (2, 2)).save(here / "flat/0.png")
    with pytest.raises(InputError, match="holds 1 pictures 1 levels deep; they must lie as CLASS/FILE"):
        load_dataset("images:flat")


def test_white_is_what_the_scenario_says(here: Path) -> None:
    pictures(here / "scans", [f"{c}/{i}.png" for c in "xy" for i in range(3)], top=4095)
    half = Choices(white=(0, 4095))
    assert load_dataset("images:scans", choices=half).train.x.max() == 1
    with pytest.raises(InputError, match=r"next to nothing of \[0, 1\].*, or data\.white say what white is"):
        load_dataset("images:scans")
    x = np.array([[[[-1000.0]]], [[[1000.0]]], [[[0.0]]]])
    np.savez(here / "ct.npz", x_train=x, y_train=[0, 1, 0])
    with pytest.raises(InputError, match=r"x spans \[-1000.0, 1000.0\]; floating-point images must stay"):
        load_dataset("npz:ct.npz")
    read = load_dataset("npz:ct.npz", choices=Choices(white=(-1000, 1000)))
    assert read.train.x.ravel().tolist() == [0, 1, 0.5]
    with pytest.raises(InputError, match=r"but data.white is \[0, 500\]; it must hold all values"):
        load_dataset("npz:ct.npz", choices=Choices(white=(0, 500)))
    with pytest.raises(InputError, match="black must be below white"):
        scenario.load({"name": "x", "data": {"white": [5, 5]}})


def test_a_frame_with_its_sites_and_categories_from_python(here: Path) -> None:
    settings = described(dataset="digits")
    run = fedkt.simulate(settings, data=frame(), out=here / "run")
    assert run.summary["clients"] == 2
    kept = json.loads((run.path / "model-input.json").read_text())
    assert kept["categories"] == {"sex": ["f", "m"], "ward": ["1", "2", "10"]}


COLUMNS = {"a": ["age", "sex"], "b": ["dose", "age", "ward"]}


def test_a_site_may_lack_columns(here: Path) -> None:
    """As one table with a column of sites, and as a file for each site that has its columns alone."""
    table = frame()
    table["site"] = np.where(table.pop("hospital") == "east", "a", "b")
    table.to_csv("all.csv", index=False)
    for site, columns in COLUMNS.items():
        table.loc[table["site"] == site, [*columns, "sick"]].to_csv(f"{site}.csv", index=False)
    known = {"sex": ["f", "m"], "ward": [1, 2, 10]}
    one = described(dataset="csv:all.csv", site="site", columns=COLUMNS, categories=known, standardise=True)
    one["data"]["partition"] = {"kind": "domain"}
    two = described(dataset={"a": "csv:a.csv", "b": "csv:b.csv"}, columns=COLUMNS, categories=known)
    two["data"] |= {"standardise": True, "site": None, "partition": {"kind": "domain"}}
    made = data.build(scenario.load(one)), data.build(scenario.load(two))
    for held in made:
        assert held.pool.columns == ("age", "sex=f", "sex=m", "dose", "ward=1", "ward=2", "ward=10")
        a, b = held.shards
        x = held.tensors(a)[0]
        assert not x[:, 3:].any() and x[:, :3].any() and not held.tensors(b)[0][:, 1:3].any()
        # What the other site's transfer rows have there is nothing to a site that lacks it.
        assert not held.transfer_tensor(a)[:, 3:].any() and held.transfer_tensor(b)[:, 3].any()
    by_row = [sorted(map(str, np.nan_to_num(held.pool.x, nan=-9).tolist())) for held in made]
    assert by_row[0] == by_row[1]
    own = build_own("a", Sources(here, "csv:a.csv", transfer="csv:all.csv"), scenario.load(two))
    assert own.pool.columns == made[0].pool.columns and np.isnan(own.pool.x[:, 3]).all()
    one["data"]["columns"] = {"a": ["age"]}
    with pytest.raises(
        InputError, match=r"data\.columns names no columns for b, whose rows data\.dataset holds"
    ):
        data.build(scenario.load(one))


def test_without_scaling_a_column_that_a_site_lacks_is_nothing_too(here: Path) -> None:
    from fedkt.data.sets.preprocess import Statistics

    known = Statistics.of(np.array([[1.0, np.nan], [3.0, np.nan]]), "mean", standardise=False)
    assert known.apply(np.array([[np.nan, 7.0], [5.0, np.nan]])).tolist() == [[2, 0], [5, 0]]
