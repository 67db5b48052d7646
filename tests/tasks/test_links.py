"""Links of a graph: files, corruptions and ranks by hand, and a small federation of a made graph."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import fedkt
from fedkt.data import build
from fedkt.data.content.same_rows import row_hashes
from fedkt.data.graph.corruptions import corrupted, neighbours, questions
from fedkt.data.graph.triples import numbered, read_triples, write_triples
from fedkt.data.graph.vocabulary import Graph
from fedkt.data.own import Sources, build_own
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Contributions
from fedkt.models import build as build_model
from fedkt.scenario import Scenario, load
from fedkt.strategies.held import Held
from fedkt.tasks import Links
from fedkt.tasks.link_scoring import area, figures, filtered_ranks

TASK = Links(2)
ANN, BOB, CAT, KNOWS, LIKES = 1, 2, 3, 4, 5
SMALL = Graph(("ann", "bob", "cat"), ("knows", "likes"))


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty people in a ring: who is next to whom, and who is two on; a fifth of the links are test ones."""
    folder = tmp_path_factory.mktemp("graph")
    links = [
        f"p{k}\t{r}\tp{(k + s) % 20}" for k in range(20) for r, s in (("next", 1), ("two", 2), ("back", 19))
    ]
    write(folder / "ring" / "train.txt", [link for n, link in enumerate(links) if n % 5])
    write(folder / "ring" / "test.txt", links[::5])
    return folder


def described(*more: str, **data: Any) -> Scenario:
    local = {"epochs": 2, "batch_size": 16, "lr": 0.01}
    part = {"dataset": "triples:ring", "task": "links", "partition": {"kind": "iid", "clients": 2}}
    return load(
        {
            "name": "ring",
            "data": {**part, "transfer": {"size": 12}, **data},
            "clients": {"models": [{"name": "kge", "width": 4}], "local": local},
            "strategy": "held",
            "rounds": 1,
            "engine": {"kind": "inline"},
        },
        list(more),
    )


# Files ----------------------------------------------------------------------------------------------


def test_names_are_numbered_in_order_and_what_is_repeated_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "g" / "train.tsv", ["bob\tlikes\tann", "ann\tknows\tbob", "bob\tlikes\tann"])
    write(tmp_path / "g" / "test.tsv", ["ann\tknows\tbob", "ann\tlikes\tcat"])
    write(tmp_path / "g" / "valid.tsv", ["cat\tknows\tcat"])
    read = read_triples("g", tmp_path)
    assert read.graph == SMALL
    assert read.parts["train"].tolist() == [[BOB, LIKES, ANN], [ANN, KNOWS, BOB]]
    assert read.parts["test"].tolist() == [[ANN, LIKES, CAT]]
    assert read.graph.known.tolist() == [[CAT, KNOWS, CAT]]
    assert read.repeated == 2


def test_commas_quotes_and_a_heading_are_read_and_lists_decide_the_numbers(tmp_path: Path) -> None:
    write(tmp_path / "f.csv", ["head,relation,tail", '"bob, jr",knows,ann', ""])
    write(tmp_path / "entities.txt", ["zoe", "ann", "bob, jr"])
    write(tmp_path / "relations.txt", ["likes", "knows"])
    read = read_triples("f.csv", tmp_path)
    assert read.graph.entities == ("zoe", "ann", "bob, jr")
    assert read.parts["train"].tolist() == [[3, 5, 2]]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            ["a\tr\tb", "a\tr", "a\tr\tb\tc"],
            "line 2 has 2 of 3 fields, line 3 has 4 of 3 fields; each line must",
        ),
        (["a\tr\tb", "a\t\tb"], "line 2 lacks its relation"),
        (["a b c"] * 5, "line 1 has 1 of 3 fields, line 2 has 1 of 3 fields, line 3 .* and 2 more"),
        ([""], "holds no links"),
    ],
)
def test_a_corrupt_file_is_told_in_one_sentence(tmp_path: Path, lines: list[str], told: str) -> None:
    write(tmp_path / "bad.txt", lines)
    with pytest.raises(InputError, match=rf"triples:bad\.txt.*{told}") as raised:
        read_triples("bad.txt", tmp_path)
    assert len(raised.value.problems) == 1


def test_what_is_no_file_of_triples_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "named" / "train.txt", ["ann\tknows\tdan"])
    write(tmp_path / "named" / "entities.txt", ["ann", "bob"])
    for name, told in (
        ("bytes.txt", "UTF-8"),
        ("empty", "no train.txt"),
        ("none", "was not found"),
        ("named", "'dan', which entities.txt beside it does not list"),
    ):
        with pytest.raises(InputError, match=told):
            read_triples(name, tmp_path)


def test_what_is_written_for_sites_reads_back_with_its_repeats(tmp_path: Path) -> None:
    graph = Graph(("ann, jr", 'bob "b"', "cat"), ("knows", "likes"), np.array([[3, 4, 3]]))
    links = np.array([[2, 5, 1], [1, 4, 2], [2, 5, 1]])
    write_triples(tmp_path / "g", {"train": links, "test": np.array([[1, 5, 3]])}, graph)
    once, candidates = (read_triples("g", tmp_path, repeats=repeats) for repeats in (False, True))
    assert once.graph == candidates.graph == graph
    assert once.graph.known.tolist() == [[3, 4, 3]]
    assert once.parts["test"].tolist() == [[1, 5, 3]]
    assert (once.parts["train"].tolist(), once.repeated) == (links[:2].tolist(), 1)
    assert (candidates.parts["train"].tolist(), candidates.repeated) == (links.tolist(), 0)


# Corruptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["random", "typed", "hard"])
def test_no_corruption_is_a_known_link_and_one_end_alone_goes(policy: Any) -> None:
    names = tuple(f"name {k}" for k in range(12))
    big = Graph(names, ("r", "s"))
    links = np.array([[1 + k, 13 + k % 2, 1 + (k + 1) % 12] for k in range(12)])
    known = np.unique(big.keys(links))
    made, of = corrupted(links, big, policy, 3, known, np.random.default_rng(0), links)
    assert np.bincount(of).tolist() == [3] * 12
    assert not np.isin(big.keys(made), known).any()
    assert ((made != links[of]).sum(1) == 1).all() and (made[:, 1] == links[of][:, 1]).all()
    if policy == "typed":  # heads of r are odd tokens, tails even ones; of s the other way round
        assert (made[:, 0] % 2 == (made[:, 1] == 13)).all()
        assert (made[:, 2] % 2 == (made[:, 1] == 14)).all()


def test_where_all_fits_nothing_is_made_up() -> None:
    """Of two people who know each other and themselves, nothing is untrue."""
    pair = Graph(("a", "b"), ("r",))
    links = np.array([[h, 3, t] for h in (1, 2) for t in (1, 2)])
    made, of = corrupted(
        links, pair, "typed", 2, np.unique(pair.keys(links)), np.random.default_rng(0), links
    )
    assert len(made) == len(of) == 0


def test_names_are_compared_by_trigrams() -> None:
    near = neighbours(("body part", "body location", "cell", "cell part"))
    assert near[2, 0] == 3 and near[0, 0] in (1, 3) and near.shape == (4, 3)


def test_questions_leave_known_links_out_and_say_what_fits() -> None:
    links = np.array([[ANN, KNOWS, BOB]])
    others = np.array([[ANN, KNOWS, CAT], [BOB, KNOWS, BOB]])
    known = SMALL.known_keys([links, others])
    rows, kinds, of = questions(
        links, SMALL, known, np.concatenate([links, others]), None, np.random.default_rng(0)
    )
    # For the tail all but bob (it) and cat (known): ann, whom nobody knows; for the head cat.
    assert rows.tolist() == [[ANN, KNOWS, BOB], [ANN, KNOWS, ANN], [ANN, KNOWS, BOB], [CAT, KNOWS, BOB]]
    assert kinds.tolist() == [1, 0, 1, 0] and of.tolist() == [0] * 4
    seen = np.concatenate([links, others, [[CAT, KNOWS, ANN]]])
    assert questions(links, SMALL, known, seen, None, np.random.default_rng(0))[1].tolist() == [1, 2, 1, 2]


# Figures --------------------------------------------------------------------------------------------


def test_ranks_by_hand() -> None:
    true = np.array([True, False, False, False, True, False, True])
    scores = np.array([1.0, 2.0, 1.0, np.nan, 5.0, 4.0, 0.0])
    assert filtered_ranks(scores, true).tolist() == [2.5, 1.0, 1.0]
    found = figures(scores, true, np.zeros(7, bool), np.ones(7))
    assert found["mrr"] == pytest.approx((0.4 + 1 + 1) / 3)
    assert found["hits_1"] == pytest.approx(2 / 3)
    assert found["hits_10"] == 1.0
    assert found["auc_typed"] is None
    nothing = figures(scores[:0], true[:0], true[:0], np.ones(0))
    assert set(nothing.values()) == {None}


def test_the_area_is_that_of_scikit_learn_and_weights_count() -> None:
    rng = np.random.default_rng(0)
    scores, true, weights = np.round(rng.standard_normal(80), 1), rng.random(80) < 0.3, rng.random(80)
    assert area(scores, true, weights) == pytest.approx(roc_auc_score(true, scores, sample_weight=weights))


def test_personal_figures_are_of_the_relations_that_a_client_holds() -> None:
    y = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0]])
    scores = torch.tensor([[2.0], [1.0], [0.0], [1.0]])
    found = TASK.measure(scores, y, 1, np.array([1.0, 0.0]), TASK.strata(y.numpy(), y.numpy()))
    assert found[""] == pytest.approx(0.5)  # 2 of 4 pairs: 2 > 1, 2 > 1, 0 < 1, 0 < 1
    assert (found["personal"], found["personal_mrr"], found["personal_auc_typed"]) == (1.0, 1.0, 1.0)
    assert found["mrr"] == pytest.approx(0.75)
    assert TASK.leading(scores, y) == found[""]


# Fusion and models ----------------------------------------------------------------------------------


def test_held_asks_the_holders_of_each_rows_relation() -> None:
    class Here:
        task = TASK
        scenario = Scenario(name="here")

    strategy: Any = Held.__new__(Held)
    strategy.config, strategy._ever, strategy.setting = Held.Config(), {}, Here()
    arrays = {
        "values": torch.tensor([[[0.9], [0.2], [0.5]], [[0.3], [0.4], [0.1]]]),
        "label_share": torch.tensor([[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]]),
    }
    fused = strategy.fuse(Contributions(("0", "1"), arrays))
    # Both hold the first row's relation, the second client alone that of the second, nobody the third's.
    assert fused.arrays["values"].flatten().tolist() == pytest.approx([0.6, 0.4, 0.3])
    assert fused.report["holders"] == pytest.approx(1.0)


def test_distmult_is_a_product_and_a_weighted_sum_and_the_mlp_knows_heads_from_tails() -> None:
    spec = InputSpec("tokens", (3,), 6)
    net: Any = build_model({"name": "kge", "width": 2}, spec, 1, 0)
    with torch.no_grad():
        net.features[0].embedding.weight.copy_(torch.arange(12.0).view(6, 2))
        net.head.weight.copy_(torch.tensor([[1.0, 10.0]]))
        net.head.bias.fill_(0.5)
    # (2 * 8 * 4) + 10 * (3 * 9 * 5) + .5
    assert net(torch.tensor([[1, 4, 2]]))[1].item() == pytest.approx(64 + 1350 + 0.5)
    other = build_model({"name": "kge", "score": "mlp", "width": 2}, spec, 1, 0)
    there, back = other(torch.tensor([[1, 4, 2], [2, 4, 1]]))[1]
    assert there.item() != back.item()


def test_bad_settings_of_the_model_are_told() -> None:
    for spec, told in (
        ({"name": "kge", "score": "transe"}, "must be distmult or mlp"),
        ({"name": "kge", "score": "mlp", "hidden": []}, "needs a layer"),
    ):
        with pytest.raises(InputError, match=told):
            build_model(spec, InputSpec("tokens", (3,), 6), 1, 0)
    with pytest.raises(InputError, match="three token ids a row"):
        build_model("kge", InputSpec("tokens", (5,), 6), 1, 0)


# A federation ---------------------------------------------------------------------------------------


def test_a_federation_of_links(graph: Path) -> None:
    made = build(described(corruptions={"per_link": 3}), graph)
    assert made.transfer_labels is not None
    assert made.classes == 1 and made.groups == ["relation 0", "relation 1", "relation 2"]
    assert made.transfer is not None and len(made.transfer) == 12 and (made.transfer.y == -1).all()
    assert (made.transfer_labels == -1).all()
    for shard in made.shards:  # 48 training links less 6 of the list, dealt to two
        y = made.pool.y[shard.rows]
        assert (y[:, 0] == 1).sum() == 21 and len(y) == 84
        assert shard.share == pytest.approx(np.bincount(y[y[:, 0] == 1, 1], minlength=3) / 21)
    assert made.test is not None
    assert (made.test.y[:, 0] == 1).sum() == 2 * 12
    asked = made.test.y[:, 0] == 0
    assert not np.isin(row_hashes(made.test.x[asked]), row_hashes(made.pool.x[:48])).any()
    again = build(described(corruptions={"per_link": 3}), graph)
    assert np.array_equal(again.pool.x, made.pool.x) and again.transfer_hash == made.transfer_hash


def test_relations_can_be_dealt_whole_and_candidates_be_made_of_names_alone(graph: Path) -> None:
    whole = {"kind": "whole-classes", "clients": 3}
    made = build(described(partition=whole, transfer={"from": "made:links", "size": 50}), graph)
    held = [set(np.flatnonzero(shard.share)) for shard in made.shards]
    assert sorted(map(len, held)) == [1, 1, 1] and set.union(*held) == {0, 1, 2}
    assert made.transfer is not None
    x = made.transfer.x
    assert x[:, 0].min() >= 1 and x[:, [0, 2]].max() <= 20 and set(x[:, 1]) <= {21, 22, 23}


def test_a_site_makes_of_its_own_links_what_a_simulation_would(graph: Path, tmp_path: Path) -> None:
    lines = (graph / "ring" / "train.txt").read_text().splitlines()
    write(tmp_path / "here" / "train.txt", lines[:20])
    write(tmp_path / "entities.txt", [f"p{k}" for k in range(20)])
    write(tmp_path / "here" / "entities.txt", [f"p{k}" for k in range(20)])
    write(tmp_path / "here" / "relations.txt", ["next", "two", "back"])
    write(tmp_path / "relations.txt", ["next", "two", "back"])
    write(tmp_path / "candidates.txt", lines[30:40])
    scenario = described()
    made = build_own("here", Sources(tmp_path, "triples:here", transfer="triples:candidates.txt"), scenario)
    (shard,) = made.shards
    assert made.classes == 1 and made.input.vocabulary == 24 and len(made.groups) == 3
    assert (made.pool.y[shard.rows, 0] == 1).sum() == 16  # a fifth is held out
    assert made.own_test is not None and shard.test is not None and len(shard.test) == len(made.own_test)


def test_clients_learn_and_a_run_says_its_figures(graph: Path, tmp_path: Path) -> None:
    done = fedkt.simulate(described("rounds=2"), data_dir=graph, out=tmp_path / "run", progress=False)
    assert done.summary["metric"] == {"name": "auc", "higher_is_better": True}
    score = done.summary["score"]
    assert {"global_mean", "global_mrr_mean", "global_hits_10_mean", "personal_auc_typed_mean"} <= set(score)
    world = checked_world(described("rounds=2"), graph)
    sent = world.full_contribution("0")
    assert {name: spec.shape for name, spec in sent.items()} == {"values": (12, 1), "label_share": (12,)}
    assert done.summary["bytes"]["up"] == 2 * 2 * sum(spec.nbytes for spec in sent.values())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"task": "classification"}, "holds links, which data.task classification does not predict"),
        ({"dataset": "digits"}, "holds no triples, but data.task is links"),
        ({"transfer": {"size": 13}}, "it must be even"),
        ({"transfer": {"size": 200}}, "must be at most 96"),
        ({"corruptions": {"kind": "hard"}, "dataset": "triples:numbers.txt"}, "these are numbers"),
        ({"transfer": {"from": "triples:numbers.txt", "size": 2}}, "other entities or relations"),
    ],
)
def test_what_does_not_fit_is_told(graph: Path, more: dict[str, Any], told: str) -> None:
    write(graph / "numbers.txt", [f"{k}\tr\t{(k + 1) % 30}" for k in range(30)])
    with pytest.raises(InputError, match=told):
        build(described(**more), graph)


def test_corruptions_are_of_links_alone_and_private_training_is_refused(graph: Path) -> None:
    with pytest.raises(InputError, match="which only data"):
        load({"name": "x", "data": {"corruptions": {"per_link": 2}}})
    with pytest.raises(InputError, match="no row stands alone"):
        fedkt.simulate(
            described(
                "strategy=fedmd", "privacy={mode: dpsgd, noise_multiplier: 1.0, max_epsilon: 8, delta: 1e-5}"
            ),
            data_dir=graph,
            progress=False,
        )


@pytest.mark.skipif(
    importlib.util.find_spec("pykeen") is None, reason="pykeen, whose files are read, is missing"
)
def test_the_benchmark_graphs_are_read_without_importing_their_package() -> None:
    import sys

    from fedkt.data.examples.graphs import kinships, umls

    for function, entities, relations, sizes, known in (
        (umls, 135, 46, (5216, 661), 652),
        (kinships, 104, 25, (8544, 1074), 1068),
    ):
        split = function()
        graph_ = split.train.graph
        assert graph_ is not None and split.test is not None
        assert (len(graph_.entities), len(graph_.relations)) == (entities, relations)
        assert (len(split.train), len(split.test)) == sizes and len(graph_.known) == known
    assert "pykeen" not in sys.modules


def test_texts_are_numbered_without_a_file() -> None:
    read = numbered("here", {"train": [("10", "r", "9")]})
    assert read.graph.entities == ("9", "10")
