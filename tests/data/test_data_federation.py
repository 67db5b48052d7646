"""A scenario's data: what is held out, who holds what, what models get."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse

from fedkt.data import Federation, build
from fedkt.data.content.transfer_set import transfer_hash
from fedkt.data.describe import draw, table
from fedkt.data.sets.dataset import Dataset, Split
from fedkt.data.sets.preprocess import Statistics, fit, fit_raw
from fedkt.errors import InputError
from fedkt.scenario import Scenario

MODULE = __name__
DIGITS = "fedkt.data.sets.digits:digits"


def federation(seed=0, data_dir=None, **data) -> Federation:
    return build(Scenario.model_validate({"name": "t", "seed": seed, "data": data}), data_dir)


def split_rows():
    """Rows whose only column is their number: 200 training rows, 50 test rows, 4 classes."""
    x = np.arange(250, dtype=np.float32)[:, None]
    y = np.arange(250) % 4
    rows = Dataset(x, y, None, "tabular")
    return Split(rows.take(np.arange(200)), rows.take(np.arange(200, 250)), 4)


def more_rows():
    return np.arange(1000, 1060, dtype=np.float32)[:, None], np.arange(60) % 4


def two_sites():
    """Site b has a column mean of 100, site a of 0; b comes first."""
    x = np.concatenate([np.linspace(90, 110, 40), np.linspace(-10, 10, 60)]).astype(np.float32)[:, None]
    x[0, 0] = np.nan
    return x, np.arange(100) % 2, ["b"] * 40 + ["a"] * 60


def writers():
    """Writers 0 to 9 with 12 rows each and one with a single row."""
    ids = np.repeat([str(k) for k in range(11)], [12] * 10 + [1])
    rows = Dataset(np.arange(121, dtype=np.float32)[:, None], np.arange(121) % 3, None, "tabular", ids)
    return Split(rows, None, 3)


def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 6, 6, 3)).astype(np.uint8), np.arange(40) % 2


def grey():
    return np.full((30, 4, 4), 0.5), np.arange(30) % 3


def gap():
    return np.zeros((40, 2), np.float32), np.arange(40) % 2 * 2


def numbers(part):
    return set(part.x[:, 0].astype(int).tolist())


def test_everything_that_is_held_out_is_disjoint():
    found = federation(
        dataset=f"{MODULE}:split_rows",
        partition={"kind": "dirichlet", "clients": 4, "alpha": 1.0},
        validation=0.25,
        transfer={"from": "train", "size": 30},
        public={"from": "train", "size": 20},
    )
    assert found.test is not None and found.transfer is not None and found.public is not None
    private = [set(s.rows.tolist()) for s in found.shards] + [
        set(s.validation.tolist()) for s in found.shards
    ]
    sets = [*private, numbers(found.transfer), numbers(found.public), numbers(found.test)]
    assert sum(len(s) for s in sets) == len(set().union(*sets)) == 250
    assert (len(found.transfer), len(found.public), len(found.test)) == (30, 20, 50)
    assert set(found.transfer.y.tolist()) == {-1}
    assert found.public.y.tolist() == (found.public.x[:, 0].astype(int) % 4).tolist()
    dealt = [len(s.rows) + len(s.validation) for s in found.shards]
    assert [len(s.validation) for s in found.shards] == [n // 4 for n in dealt]
    assert all(shard.test is None and shard.domain is None for shard in found.shards)
    assert found.own_test is None


def test_draws_depend_on_their_purpose_and_the_seed_alone():
    settings = {"dataset": f"{MODULE}:split_rows", "partition": {"kind": "iid", "clients": 4}}
    transfer = {"from": "train", "size": 30}
    one = federation(**settings, transfer=transfer)
    same = federation(**settings, transfer=transfer, validation=0.2)
    other = federation(seed=1, **settings, transfer=transfer)
    assert one.transfer_hash == same.transfer_hash != other.transfer_hash
    assert [s.id for s in one.shards] == ["0", "1", "2", "3"]


def test_shares_and_counts():
    found = federation(dataset=f"{MODULE}:split_rows", partition={"kind": "iid", "clients": 4})
    counts = found.counts()
    assert (counts.shape, counts.sum()) == ((4, 4), 200)
    for shard, row in zip(found.shards, counts, strict=True):
        assert shard.share.tolist() == (row / row.sum()).tolist()
        _, y = found.tensors(shard)
        assert torch.bincount(y, minlength=4).tolist() == row.tolist()
    x, y = found.pooled()
    assert x[:, 0].int().tolist() == list(range(200))
    assert y.tolist() == [n % 4 for n in range(200)]


def test_a_source_without_test_rows_gives_a_fifth_of_them():
    found = federation(dataset=f"{MODULE}:more_rows", partition={"kind": "iid", "clients": 2})
    assert found.test is not None
    assert np.bincount(found.test.y).tolist() == [3, 3, 3, 3]
    assert not numbers(found.test) & {int(n) for n in found.pooled()[0]}


def test_another_data_set_for_transfer_public_and_test():
    found = federation(
        dataset=f"{MODULE}:split_rows",
        partition={"kind": "iid", "clients": 4},
        test=f"{MODULE}:more_rows",
        transfer={"from": f"{MODULE}:more_rows", "size": 25},
        public={"from": f"{MODULE}:more_rows", "size": 20},
    )
    assert found.test is not None and found.transfer is not None and found.public is not None
    sets = [numbers(found.transfer), numbers(found.public), numbers(found.test)]
    assert [len(s) for s in sets] == [25, 20, 15]
    assert set().union(*sets) == set(range(1000, 1060))
    assert sum(len(shard.rows) for shard in found.shards) == 200
    assert found.transfer_hash == transfer_hash(found.transfer.x)


def test_domain_clients_have_test_rows_of_their_own_in_the_order_of_the_data():
    found = federation(dataset=f"{MODULE}:two_sites", partition={"kind": "domain"}, missing="mean")
    assert found.test is not None and found.test.domain is not None
    assert [shard.domain for shard in found.shards] == ["b", "a"]
    assert [len(shard.rows) for shard in found.shards] == [32, 48]
    for shard, n in zip(found.shards, (8, 12), strict=True):
        assert shard.test is not None
        assert found.test.domain[shard.test].tolist() == [shard.domain] * n
        x, y = found.own_test_tensors(shard)
        assert (len(x), len(y)) == (n, n)
    assert found.own_test is found.test
    label = federation(dataset=f"{MODULE}:two_sites", partition={"kind": "iid", "clients": 2}, missing="mean")
    with pytest.raises(ValueError, match="no test rows of its own"):
        label.own_test_tensors(label.shards[0])


def test_with_a_common_test_set_of_another_kind_own_rows_stay_apart():
    found = federation(
        dataset=f"{MODULE}:two_sites", partition={"kind": "domain"}, missing="mean", test=f"{MODULE}:gap_free"
    )
    assert found.test is not None and found.own_test is not None
    assert (len(found.test), len(found.own_test)) == (40, 20)
    assert sorted(np.concatenate([s.test for s in found.shards if s.test is not None]).tolist()) == list(
        range(20)
    )


def gap_free():
    return np.zeros((40, 1), np.float32), np.arange(40) % 2


def test_natural_ids_hold_out_rows_of_each_id():
    found = federation(dataset=f"{MODULE}:writers", partition={"kind": "natural-id"}, transfer={"size": 11})
    assert found.test is not None and len(found.test) == 20
    shards = [shard for shard in found.shards if shard.domain != "10"]
    assert [len(shard.test) for shard in shards if shard.test is not None] == [2] * 10
    assert all(
        found.test.ids[shard.test].tolist() == [shard.domain] * 2
        for shard in shards
        if found.test.ids is not None
    )
    assert sum(len(shard.rows) for shard in found.shards) == 121 - 20 - 11


def test_statistics_are_the_clients_own():
    found = federation(
        dataset=f"{MODULE}:two_sites",
        partition={"kind": "domain"},
        missing="mean",
        standardise=True,
        transfer={"from": f"{MODULE}:gap_free", "size": 10},
    )
    for shard in found.shards:
        x, _ = found.tensors(shard)
        assert x.mean().abs() < 1e-5
        assert abs(float(x.std(correction=0)) - 1) < 1e-5
    b, a = (found.transfer_tensor(shard) for shard in found.shards)
    assert b.max() < -10  # zeros are far below what site b knows ...
    assert a.abs().max() < 0.5  # ... and in the middle of site a
    assert found.transfer_tensor().shape == (10, 1)
    assert len(found.test_tensors(found.shards[0])[0]) == 20


def test_all_data_in_one_place_are_seen_by_the_statistics_of_all():
    from fedkt.engine.checks.checked import checked_world

    data = {
        "dataset": f"{MODULE}:two_sites",
        "partition": {"kind": "domain"},
        "missing": "mean",
        "standardise": True,
    }
    described = {"name": "t", "data": data, "clients": {"models": ["tabular"]}, "engine": {"kind": "inline"}}
    seen = {}
    for strategy in ("central", "local"):
        world = checked_world(Scenario.model_validate({**described, "strategy": {"name": strategy}}))
        seen[strategy] = [world.federation.test_tensors(shard)[0] for shard in world.shards.values()]
        assert world.federation.pooled()[0].mean().abs() < 1e-5
    assert torch.equal(*seen["central"])
    assert not torch.equal(*seen["local"])


def test_hand_computed_statistics():
    nan = np.nan
    x = np.array([[1, nan, 4], [3, nan, 4], [8, nan, nan]], np.float32)
    mean = Statistics.of(x, "mean", False).apply(np.full((1, 3), nan, np.float32))
    median = Statistics.of(x, "median", False).apply(np.full((1, 3), nan, np.float32))
    zero = Statistics.of(x, "zero", False).apply(np.full((1, 3), nan, np.float32))
    assert (mean.tolist(), median.tolist(), zero.tolist()) == ([[4, 0, 4]], [[3, 0, 4]], [[0, 0, 0]])
    scaled = Statistics.of(x, "mean", True).apply(x)
    # Column 0: mean 4, deviation sqrt((9 + 1 + 16) / 3); columns 1 and 2 are constant.
    assert np.allclose(scaled[:, 0], (np.array([1, 3, 8]) - 4) / np.sqrt(26 / 3))
    assert scaled[:, 1:].tolist() == [[0, 0]] * 3


def test_images_are_scaled_and_adapted_but_hashed_raw():
    raw = federation(
        dataset=f"{MODULE}:pictures",
        partition={"kind": "iid", "clients": 2},
        transfer={"size": 6},
        normalise="none",
    )
    small = federation(
        dataset=f"{MODULE}:pictures",
        partition={"kind": "iid", "clients": 2},
        transfer={"size": 6},
        image={"size": 3, "channels": 1},
    )
    assert raw.transfer is not None
    assert (raw.input.shape, small.input.shape) == ((3, 6, 6), (1, 3, 3))
    assert raw.transfer_hash == small.transfer_hash
    assert torch.equal(raw.transfer_tensor(), torch.from_numpy(raw.transfer.x) / 255)
    assert small.transfer_tensor().shape == (6, 1, 3, 3)
    assert small.pool.x.dtype == np.uint8
    assert small.tensors(small.shards[0])[0].shape[1:] == small.input.shape


def test_transfer_images_of_another_shape_need_data_image():
    pictures = f"{MODULE}:pictures"
    settings = {"dataset": pictures, "partition": {"kind": "iid", "clients": 2}, "normalise": "none"}
    transfer = {"from": f"{MODULE}:grey", "size": 9}
    with pytest.raises(
        InputError, match=r"shape \(1, 4, 4\) but one of data.dataset \(3, 6, 6\); data.image"
    ):
        federation(**settings, transfer=transfer)
    found = federation(**settings, transfer=transfer, image={"size": 6, "channels": 3})
    assert torch.allclose(found.transfer_tensor(), torch.full((9, 3, 6, 6), 0.5))


def test_resizing_by_hand():
    image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert fit(image, 4, 1)[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]
    assert fit(image, 2, 3).shape == (1, 3, 2, 2)
    colour = torch.tensor([1.0, 0.5, 0.0]).reshape(1, 3, 1, 1)
    assert abs(float(fit(colour, 1, 1)) - (0.299 + 0.587 / 2)) < 1e-6
    assert fit_raw(np.full((1, 1, 2, 2), 77, np.uint8), 3, 1).tolist() == [[[[77] * 3] * 3]]


def test_sparse_rows_become_dense_tensors(tmp_path):
    csr = sparse.random(40, 12, density=0.2, format="csr", random_state=0, dtype=np.float32)
    np.savez(
        tmp_path / "s.npz",
        x_train_data=csr.data,
        x_train_indices=csr.indices,
        x_train_indptr=csr.indptr,
        x_train_shape=csr.shape,
        y_train=np.arange(40) % 2,
    )
    found = federation(
        data_dir=tmp_path, dataset="npz:s.npz", partition={"kind": "iid", "clients": 2}, transfer={"size": 5}
    )
    assert found.input.kind == "sparse" and found.input.shape == (12,)
    x, _ = found.tensors(found.shards[0])
    assert x.numpy().tolist() == csr[found.shards[0].rows].toarray().tolist()
    assert found.transfer_tensor().dtype == torch.float32


def test_text_becomes_tokens(tmp_path):
    texts = np.array(["good film", "bad film"] * 20)
    np.savez(tmp_path / "t.npz", x_train=texts, y_train=np.arange(40) % 2)
    found = federation(data_dir=tmp_path, dataset="npz:t.npz", partition={"kind": "iid", "clients": 2})
    assert (found.input.kind, found.input.shape, found.input.vocabulary) == ("tokens", (128,), 20_000)
    assert found.tensors(found.shards[0])[0].dtype == torch.int64


def test_a_target_makes_two_classes():
    found = federation(dataset=f"{MODULE}:split_rows", partition={"kind": "iid", "clients": 2}, target="y>0")
    assert found.test is not None
    assert found.classes == 2
    assert found.counts().sum(axis=0).tolist() == [50, 150]
    assert np.bincount(found.test.y).tolist() == [13, 37]


def test_common_tensors_are_made_once_and_not_pickled():
    found = federation(dataset=DIGITS, partition={"kind": "iid", "clients": 3}, transfer={"size": 20})
    assert found.test_tensors()[0] is found.test_tensors(found.shards[1])[0]
    assert found.transfer_tensor() is found.transfer_tensor()
    again = pickle.loads(pickle.dumps(found))
    assert not again._kept
    assert torch.equal(again.test_tensors()[0], found.test_tensors()[0])
    with pytest.raises(ValueError, match="no public set"):
        found.public_tensors()


def test_the_hash_is_of_form_and_raw_bytes():
    rows = np.array([[1, 2], [3, 4]], np.float32)
    by_hand = b"fedkt transfer set 1\ndense\n<f4 2 2\n" + rows.tobytes()
    assert transfer_hash(rows) == hashlib.sha256(by_hand).hexdigest()
    assert transfer_hash(np.asfortranarray(rows)) == transfer_hash(rows.astype(">f4")) == transfer_hash(rows)
    different = [rows[::-1], rows.reshape(1, 4), rows.astype(np.float64), rows + 1]
    assert len({transfer_hash(other) for other in [rows, *different]}) == 5


def test_the_hash_of_sparse_rows_is_of_their_canonical_form():
    plain = sparse.csr_matrix((np.array([3, 4], np.float32), [0, 2], [0, 2]), shape=(1, 3))
    shuffled = sparse.csr_matrix((np.array([4, 1, 2, 0], np.float32), [2, 0, 0, 1], [0, 4]), shape=(1, 3))
    assert transfer_hash(plain) == transfer_hash(shuffled)
    assert shuffled.nnz == 4  # the rows themselves are left as they were
    assert transfer_hash(plain) != transfer_hash(plain * 2)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"transfer": {"size": 201}}, ["data.transfer.size is 201 but 'train' has 200 rows"]),
        (
            {
                "transfer": {"size": 150},
                "public": {"from": "train", "size": 60},
                "partition": {"clients": 300},
            },
            ["data.public.size is 60 but 'train' has 50 rows", "data.partition.clients is 300"],
        ),
        (
            {"transfer": {"size": 200}},
            ["clients is 10 but there are 0 rows", "no row of classes 0, 1, 2, 3 is left"],
        ),
        (
            {"image": {"size": 4, "channels": 1}, "test": f"{MODULE}:grey"},
            ["data.image is set but the data is tabular", "data.test is image but data.dataset is tabular"],
        ),
        ({"transfer": {"from": f"{MODULE}:split_rows", "size": 9}}, ["names the private data set itself"]),
        ({"transfer": {"from": f"{MODULE}:two_sites", "size": 9}}, ["values are missing (NaN)"]),
        (
            {"transfer": {"from": f"{MODULE}:more_rows", "size": 60}, "test": f"{MODULE}:more_rows"},
            ["all transfer or public rows"],
        ),
        ({"dataset": f"{MODULE}:gap"}, ["no row of class 1 is left to deal"]),
        ({"dataset": DIGITS, "missing": "mean", "standardise": True}, ["data.missing", "data.standardise"]),
        (
            {"dataset": f"{MODULE}:two_sites", "missing": "zero", "test": f"{MODULE}:more_rows"},
            ["holds label 3"],
        ),
        (
            {"dataset": "npz:no.npz", "test": "npz:nor.npz"},
            ["data.dataset: data file", "data.test: data file"],
        ),
    ],
)
def test_all_problems_of_a_scenario_are_named(data, words):
    with pytest.raises(InputError) as error:
        federation(**{"dataset": f"{MODULE}:split_rows", **data})
    problems = error.value.problems
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_the_table_and_the_picture(tmp_path):
    found = federation(
        dataset=f"{MODULE}:two_sites", partition={"kind": "domain"}, missing="mean", validation=0.25
    )
    rows = table(found)
    assert rows[0] == {
        "client": "b",
        "domain": "b",
        "rows": "24",
        "validation": "8",
        "test": "8",
        "classes": "2",
        "class 0": "12",
        "class 1": "12",
    }
    many = federation(dataset=DIGITS, partition={"kind": "iid", "clients": 60})
    for name, drawn in (("dots", found), ("heat", many)):
        draw(drawn, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


needs_data = pytest.mark.skipif("FEDKT_DATA" not in os.environ, reason="FEDKT_DATA is not set")


@pytest.mark.data
@needs_data
def test_mnist_as_in_the_design():
    found = federation(
        dataset="npz:mnist.npz",
        transfer={"size": 1000},
        partition={"kind": "dirichlet", "alpha": 0.5, "clients": 10, "samples_per_client": 200},
    )
    assert found.counts().sum(axis=1).tolist() == [200] * 10
    assert found.pool.x.dtype == np.uint8
    assert found.test_tensors()[0].shape == (10000, 1, 28, 28)


@pytest.mark.data
@needs_data
def test_domains_of_real_data():
    office = federation(
        dataset="npz:office_caltech10_surf.npz", partition={"kind": "domain"}, transfer={"size": 100}
    )
    assert [shard.domain for shard in office.shards] == ["amazon", "caltech", "dslr", "webcam"]
    amazon = federation(dataset="npz:amazon_reviews_bow5000.npz", partition={"kind": "domain"})
    assert [0 if shard.test is None else len(shard.test) for shard in amazon.shards] == [
        4465,
        3586,
        5681,
        5945,
    ]


@pytest.mark.data
@needs_data
def test_missing_values_of_real_data():
    data = {"dataset": "npz:heart_disease_4sites.npz", "partition": {"kind": "domain"}, "target": "y>0"}
    with pytest.raises(InputError, match=r"data\.missing must be"):
        federation(**data)
    found = federation(**data, missing="median", standardise=True)
    assert found.classes == 2
    for shard in found.shards:
        assert not found.tensors(shard)[0].isnan().any()
        assert not found.test_tensors(shard)[0].isnan().any()


@pytest.mark.data
@needs_data
def test_digit_domains_of_real_data_in_one_shape():
    found = federation(
        dataset={"usps": "npz:usps.npz", "svhn": "npz:svhn_10k.npz"},
        partition={"kind": "domain"},
        image={"size": 28, "channels": 3},
        test="npz:mnist.npz",
    )
    assert found.input.shape == (3, 28, 28)
    assert [0 if shard.test is None else len(shard.test) for shard in found.shards] == [2007, 2500]
    assert found.test is not None and len(found.test) == 10000


def test_images_are_normalised_by_constants_and_hashed_as_they_were() -> None:
    from fedkt import scenario
    from fedkt.data import build

    plain = build(scenario.load("name: a\ndata: {transfer: {from: train, size: 20}, normalise: none}\n"))
    given = "name: a\ndata: {transfer: {from: train, size: 20}, normalise: {mean: [0.5], std: [0.25]}}\n"
    normalised = build(scenario.load(given))
    assert torch.allclose(normalised.transfer_tensor(), (plain.transfer_tensor() - 0.5) * 4)
    assert normalised.transfer_hash == plain.transfer_hash
    with pytest.raises(InputError, match=r"data\.normalise\.std has 3 numbers but images have 1 channels"):
        build(scenario.load(given, ["data.normalise.std=[1, 1, 1]"]))
