"""Dealing rows to clients."""

import numpy as np
import pytest

from fedkt.data.partition import partition
from fedkt.errors import InputError
from fedkt.scenario import Partition

LABELS = np.tile(np.arange(5), 60)  # 300 rows, 60 of each class
MODULE = __name__

KINDS = [
    {"kind": "iid", "clients": 7},
    {"kind": "iid", "clients": 7, "samples_per_client": 20},
    {"kind": "iid", "clients": 7, "sizes": "lognormal"},
    {"kind": "iid", "clients": 7, "sizes": "linear"},
    {"kind": "iid", "clients": 7, "sizes": "square"},
    {"kind": "iid", "clients": 4, "sizes": "exponential"},
    {"kind": "dirichlet", "clients": 7, "alpha": 0.5},
    {"kind": "dirichlet", "clients": 7, "alpha": 0.5, "samples_per_client": 20},
    {"kind": "pathological", "clients": 7, "classes_per_client": 2},
    {"kind": "shard", "clients": 7, "shards_per_client": 2},
    {"kind": "ways-shots", "clients": 7, "classes_per_client": 3, "shots": 8, "spread": 1},
    {"kind": f"{MODULE}:halves", "clients": 2},
]


def halves(labels, spec, rng):
    return [np.arange(0, 100), np.arange(len(labels) - 1, 100, -1)]


def overlapping(labels, spec, rng):
    return [[0, 1, 2], [2, 3, 999]]


def not_a_list(labels, spec, rng):
    return 3


def deal(seed=0, labels=LABELS, domains=None, ids=None, **settings):
    return partition(labels, domains, ids, Partition(**settings), seed)


def counts(parts, labels=LABELS):
    return np.stack([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])


@pytest.mark.parametrize(("rows", "clients"), [(10, 3), (12, 4), (301, 7), (5, 5)])
def test_equal_parts_are_those_of_flwr_datasets(rows: int, clients: int) -> None:
    from datasets import Dataset
    from flwr_datasets.partitioner import IidPartitioner

    flower = IidPartitioner(clients)
    flower.dataset = Dataset.from_dict({"row": range(rows)})
    parts = [flower.load_partition(i)["row"] for i in range(clients)]
    assert [part.tolist() for part in np.array_split(np.arange(rows), clients)] == [list(p) for p in parts]


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: " ".join(str(v) for v in s.values()))
def test_parts_are_disjoint_sorted_seeded_and_cover_all_classes(settings):
    parts = deal(**settings)
    rows = np.concatenate(parts)
    assert len(parts) == settings["clients"]
    assert len(np.unique(rows)) == len(rows)
    assert all(part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in parts)
    assert min(len(part) for part in parts) >= 1
    assert (counts(parts).sum(axis=0) > 0).all()
    assert all(np.array_equal(a, b) for a, b in zip(parts, deal(**settings), strict=True))
    if "halves" not in settings["kind"]:
        assert not all(np.array_equal(a, b) for a, b in zip(parts, deal(seed=1, **settings), strict=True))


def test_the_global_random_state_is_left_alone():
    np.random.seed(3)
    before = np.random.get_state(legacy=False)
    for settings in KINDS:
        deal(**settings)
    after = np.random.get_state(legacy=False)
    assert str(before) == str(after)


def test_nothing_is_printed(capfd):
    for settings in [*KINDS, {"kind": "dirichlet", "clients": 20, "alpha": 0.1}]:
        deal(**settings)
    deal(ids=LABELS.astype(str), kind="natural-id")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"clients": 3}, [100, 100, 100]),
        ({"clients": 3, "sizes": "linear"}, [50, 100, 150]),
        ({"clients": 2, "sizes": "square"}, [60, 240]),
        ({"clients": 2, "sizes": "exponential"}, [80, 220]),
        ({"clients": 3, "samples_per_client": 9}, [9, 9, 9]),
        ({"clients": 3, "samples_per_client": 40, "sizes": "linear"}, [20, 40, 60]),
    ],
)
def test_sizes_of_iid(settings, sizes):
    assert [len(part) for part in deal(kind="iid", **settings)] == sizes


def test_lognormal_sizes_differ_and_use_all_rows():
    sizes = [len(part) for part in deal(kind="iid", clients=10, sizes="lognormal", min_samples=5)]
    assert sum(sizes) == 300
    assert min(sizes) >= 5
    assert max(sizes) > 3 * min(sizes)


def test_pathological_clients_hold_that_many_classes():
    held = (counts(deal(kind="pathological", clients=7, classes_per_client=2)) > 0).sum(axis=1)
    assert held.tolist() == [2] * 7


def test_shards_are_blocks_of_the_sorted_labels():
    parts = deal(kind="shard", clients=5, shards_per_client=2)  # 10 shards of 30: two per class
    assert set(counts(parts).flatten().tolist()) <= {0, 30, 60}


def test_ways_and_shots():
    table = counts(deal(kind="ways-shots", clients=6, classes_per_client=3, shots=10))
    assert ((table > 0).sum(axis=1)).tolist() == [3] * 6
    assert set(table.flatten().tolist()) == {0, 10}
    spread = counts(deal(kind="ways-shots", clients=6, classes_per_client=3, shots=10, spread=1))
    assert set((spread > 0).sum(axis=1).tolist()) <= {2, 3, 4}
    assert all(len(set(row[row > 0].tolist())) == 1 for row in spread)
    assert set(spread[spread > 0].tolist()) <= {9, 10, 11}


def test_alpha_sets_the_skew():
    def skew(alpha):
        table = counts(deal(kind="dirichlet", clients=5, alpha=alpha, samples_per_client=30))
        return (table.max(axis=1) / 30).mean()

    assert skew(0.1) > 0.6 > 0.4 > skew(100.0)


def test_inner_dirichlet_draws_from_the_whole_pool():
    rows = np.concatenate(
        [deal(seed, kind="dirichlet", clients=5, samples_per_client=10) for seed in range(8)], axis=None
    )
    assert rows.min() < 30
    assert rows.max() >= 270


def test_labels_need_not_be_consecutive():
    labels = np.array([3, 7] * 50)
    for samples in (None, 10):
        parts = deal(labels=labels, kind="dirichlet", clients=2, alpha=5.0, samples_per_client=samples)
        assert set(labels[np.concatenate(parts)].tolist()) == {3, 7}


def test_domains_and_natural_ids():
    names = np.array(["c", "a", "b"] * 100)
    parts = deal(domains=names, kind="domain")
    assert [set(names[part].tolist()) for part in parts] == [{"a"}, {"b"}, {"c"}]
    assert [len(part) for part in deal(domains=names, kind="domain", samples_per_client=30)] == [30, 30, 30]
    ids = np.array(["u"] * 150 + ["v"] * 149 + ["w"])
    assert [len(part) for part in deal(ids=ids, kind="natural-id")] == [150, 149, 1]
    assert [len(part) for part in deal(ids=ids, kind="natural-id", min_samples=2)] == [150, 149]
    assert len(deal(ids=ids, kind="natural-id", clients=2)) == 2
    assert len(deal(domains=names, kind="natural-id")) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "iid", "clients": 301}, "must be at most 300"),
        ({"kind": "iid", "clients": 30, "min_samples": 20}, "min_samples must be at most 10"),
        ({"kind": "iid", "clients": 30, "samples_per_client": 20}, "samples_per_client must be at most 10"),
        ({"kind": "iid", "clients": 20, "sizes": "exponential"}, "clients must be smaller"),
        ({"kind": "iid", "clients": 2, "samples_per_client": 2}, "held by no client"),
        (
            {"kind": "dirichlet", "clients": 31, "samples_per_client": 10},
            "samples_per_client must be at most 9",
        ),
        ({"kind": "dirichlet", "clients": 100, "alpha": 0.01}, "alpha must be larger"),
        ({"kind": "dirichlet", "clients": 2, "alpha": 0.0001, "samples_per_client": 10}, "held by no client"),
        ({"kind": "pathological", "clients": 2}, "classes_per_client must be at least 3"),
        ({"kind": "pathological", "clients": 9, "classes_per_client": 6}, "there are 5 classes"),
        ({"kind": "shard", "clients": 10, "shards_per_client": 50}, "must be at most 30"),
        (
            {"kind": "ways-shots", "clients": 5, "classes_per_client": 2, "shots": 100},
            "shots must be at most 30",
        ),
        (
            {"kind": "ways-shots", "clients": 6, "classes_per_client": 3, "shots": 16},
            "more rows of a class than there are",
        ),
        ({"kind": "domain"}, "no domains"),
        ({"kind": "natural-id"}, "no natural ids"),
        ({"kind": f"{MODULE}:not_a_list"}, "must return a list"),
        ({"kind": f"{MODULE}:halves", "clients": 3}, "returned 2 clients"),
        ({"kind": f"{MODULE}:nothing"}, "data.partition.kind"),
        ({"kind": f"{MODULE}:LABELS"}, "must be a function"),
    ],
)
def test_impossible_partitions_say_what_would_be_right(settings, words):
    with pytest.raises(InputError, match=words):
        deal(**settings)


def test_a_functions_mistakes_are_all_named():
    with pytest.raises(InputError) as error:
        deal(kind=f"{MODULE}:overlapping")
    assert len(error.value.problems) == 2


def test_alpha_is_checked_for_unchecked_settings():
    spec = Partition().model_copy(update={"alpha": 0.0, "clients": 500})
    with pytest.raises(InputError) as error:
        partition(LABELS, None, None, spec, 0)
    assert len(error.value.problems) == 2
    assert "alpha is 0; it must be greater than 0" in error.value.problems[0]


def test_clients_of_named_partitions():
    names = np.array(["a", "b", "c"] * 100)
    with pytest.raises(InputError, match="there are 3 domains"):
        deal(domains=names, kind="domain", clients=2)
    with pytest.raises(InputError, match="3 natural ids"):
        deal(ids=names, kind="natural-id", clients=4)
    with pytest.raises(InputError, match="smallest domain has 100 rows"):
        deal(domains=names, kind="domain", min_samples=101)


def test_scarce_labels():
    from fedkt.data.scarce import scarce

    labels = np.repeat(np.arange(5), 40)
    spec = Partition(
        kind="fedkt.data.scarce:scarce", clients=3, samples_per_client=60, classes_per_client=2, shots=1
    )
    parts = scarce(labels, spec, np.random.default_rng(0))
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))  # no row twice
    for part in parts:
        counts = np.bincount(labels[part], minlength=5)
        # Of 60 random rows of five classes about 12 are of each; of the two target labels one is left.
        assert sorted(counts)[:2] == [1, 1]
        assert sorted(counts)[2] > 4
        assert len(part) < 60


@pytest.mark.parametrize(
    ("alpha", "clients", "seed"), [(0.1, 7, 0), (0.5, 20, 1), (5.0, 2, 2), (0.01, 20, 3)]
)
def test_dirichlet_draws_are_those_of_flwr_datasets(alpha, clients, seed):
    """The library's partitioners are not asked, since importing them takes seconds; the rows are the same."""
    from datasets import Dataset as Table
    from flwr_datasets import partitioner as flower

    from fedkt.data.columns.dealing import by_class, by_client

    code = np.random.default_rng(7).integers(0, 10, 400)
    table = Table.from_dict({"label": code, "row": np.arange(400)})
    theirs = [
        flower.DirichletPartitioner(clients, "label", alpha, 2, shuffle=False, seed=seed),
        flower.InnerDirichletPartitioner([15] * clients, "label", alpha, shuffle=False, seed=seed),
    ]
    ours = [
        by_class(code, clients, alpha, 2, np.random.default_rng(seed)),
        by_client(code, clients, 15, alpha, np.random.default_rng(seed)),
    ]
    for made, parts in zip(theirs, ours, strict=True):
        made.dataset = table
        try:
            expected = [made.load_partition(client)["row"] for client in range(clients)]
        except ValueError:
            assert parts is None
            continue
        assert parts is not None and [list(part) for part in parts] == [list(part) for part in expected]


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    from fedkt.data.sets.digits import _table

    source = load_digits()
    np.testing.assert_array_equal(_table(), np.column_stack([source.data, source.target]))


def test_whole_classes_go_to_one_client_each_and_sizes_are_evened() -> None:
    from fedkt.data.columns.dealing import whole_classes

    code = np.repeat(np.arange(5), [8, 1, 1, 1, 1])
    parts = whole_classes(code, 2, np.random.default_rng(0))
    holders = [{k for k, part in enumerate(parts) if (code[part] == label).any()} for label in range(5)]
    assert [len(found) for found in holders] == [1] * 5
    assert sorted(np.concatenate(parts).tolist()) == list(range(12))
    least = min(len(part) for part in parts)
    assert least >= 2  # once the large class is dealt, all others go to who lacks it
