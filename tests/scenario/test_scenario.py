"""Scenarios: what a file may say, what is said about a wrong one, and that what is written is read again."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedkt import scenario as module
from fedkt.errors import InputError
from fedkt.scenario import (
    ModelSpec,
    Partition,
    Scenario,
    StrategySpec,
    bundled,
    dump,
    from_dict,
    load,
    loading,
    parse_override,
    to_dict,
)

FULL = """\
name: knfu-mnist
data:
  dataset: npz:mnist.npz
  partition: {kind: dirichlet, alpha: 0.5, clients: 10, samples_per_client: 200}
  transfer: {from: train, size: 1000, policy: entropy, rows: 500}
  public: {from: train, size: 50}
  image: {size: 28, channels: 3}
  validation: 0.1
clients:
  models: [mlp, {name: mlp, width: 100, layers: [3, 4]}]
  local: {epochs: 3, batch_size: 32, optimizer: sgd, lr: 1e-5, momentum: 0.9}
  distill: {epochs: 3, batch_size: 64, temperature: 2, loss: kl}
strategy: {name: knfu, beta: 10}
privacy: {mode: none}
rounds: 10
participation: {fraction: 1.0, quorum: 2, deadline_s: 600}
engine: {kind: ray, workers: auto, memory_limit: 4GiB, cohort: off}
evaluate: {every: 1}
allow: [weights]
seed: 7
"""


def problems(source, overrides=()) -> list[str]:
    """The sentences about a source that must be refused."""
    with pytest.raises(InputError) as caught:
        load(source, overrides)
    return list(caught.value.problems)


def about(text: str, *overrides: str) -> list[str]:
    """The sentences about a named scenario that goes on with ``text``, which starts at line 2."""
    return problems(f"name: a\n{text}\n", overrides)


def second_model(s: Scenario) -> ModelSpec:
    """The second of a list of models, which has settings."""
    assert isinstance(s.clients.models, list)
    model = s.clients.models[1]
    assert isinstance(model, ModelSpec)
    return model


# What a file says


def test_every_part_of_a_full_file_arrives():
    s = load(FULL)
    assert s.data.partition.samples_per_client == 200
    assert s.data.transfer is not None
    assert (s.data.transfer.from_, s.data.transfer.policy, s.data.transfer.rows) == ("train", "entropy", 500)
    assert s.data.image is not None and s.data.image.channels == 3
    assert s.clients.models == ["mlp", ModelSpec(name="mlp", width=100, layers=[3, 4])]
    assert second_model(s).settings == {"width": 100, "layers": [3, 4]}
    assert (s.clients.local.lr, s.clients.local.momentum) == (0.00001, 0.9)
    assert (s.strategy.name, s.strategy.settings) == ("knfu", {"beta": 10})
    assert (s.engine.workers, s.engine.cohort, s.engine.memory_limit) == ("auto", "off", "4GiB")
    assert s.allow == ("weights",)


def test_defaults():
    s = load("name: a\n")
    assert s.data.dataset == "digits"
    assert (s.data.partition.kind, s.data.partition.alpha, s.data.partition.clients) == ("dirichlet", 0.5, 10)
    assert (s.data.transfer, s.data.public, s.data.test, s.data.image) == (None, None, None, None)
    assert s.clients.models == ["mlp"]
    assert (s.clients.local.epochs, s.clients.local.batch_size, s.clients.local.optimizer) == (3, 32, "adam")
    assert (s.clients.distill.batch_size, s.clients.distill.optimizer, s.clients.distill.lr) == (
        64,
        None,
        None,
    )
    assert (s.strategy.name, s.privacy.mode, s.rounds, s.seed) == ("dwc", "none", 10, 0)
    assert (s.participation.fraction, s.participation.quorum, s.participation.deadline_s) == (1.0, 1, 600.0)
    assert (s.engine.kind, s.engine.workers, s.engine.cohort, s.evaluate.every) == ("ray", "auto", "auto", 1)


@pytest.mark.parametrize(
    ("kind", "clients"),
    [("iid", 10), ("dirichlet", 10), ("shard", 10), ("domain", None), ("natural-id", None), ("a.b:f", None)],
)
def test_clients_default_to_ten_unless_the_data_or_a_function_decides(kind, clients):
    assert Partition(kind=kind).clients == clients
    assert Partition(kind=kind, clients=3).clients == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 0.00001),
        ("1E5", 100000.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("+3", 3),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("off", "off"),
        ("yes", "yes"),
        ("True", True),
        ("~", None),
        ("", None),
        ("'1e-5'", "1e-5"),
        ("2020-01-01", "2020-01-01"),
        ("!!str 3", "3"),
        ("<<", "<<"),
    ],
)
def test_plain_values_follow_yaml_1_2(text, value):
    found = load("name: a\nstrategy: {name: s}\n", [f"strategy.x={text}"]).strategy.settings["x"]
    assert found == value and type(found) is type(value)


def test_anchors_are_written_out():
    s = load("name: a\nclients:\n  local: &fit {epochs: 7, lr: 0.1}\n  distill: *fit\n")
    assert (s.clients.local.epochs, s.clients.distill.epochs, s.clients.distill.lr) == (7, 7, 0.1)


def test_shares_of_models_and_domains():
    s = load(
        "name: a\ndata: {dataset: {m: 'npz:m.npz', u: 'npz:u.npz'}}\nclients: {models: {mlp: 0.7, cnn: 0.3}}"
    )
    assert s.clients.models == {"mlp": 0.7, "cnn": 0.3}
    assert s.data.dataset == {"m": "npz:m.npz", "u": "npz:u.npz"}


# What is said about a wrong file


def test_all_problems_of_a_file_at_once_with_line_key_and_remedy(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: a\n"
        "data:\n"
        "  partion: {kind: iid}\n"
        "  partition:\n"
        "    kind: dirichlet\n"
        "\n"
        "    alpha: -1\n"
        "  transfer: {from: train}\n"
        "clients:\n"
        "  models:\n"
        "    - mlp\n"
        "    - {width: 3}\n"
        "rounds: 0\n"
        "rounds: 3\n"
        "engine: {kind: rai, workers: many}\n"
        "seed: 1.5\n"
    )
    assert problems(file) == [
        f"{file}:3: unknown key 'data.partion'; did you mean 'partition'?",
        f"{file}:7: data.partition.alpha is -1; it must be greater than 0.",
        f"{file}:8: data.transfer.size is missing; it must be given, such as 'size: 1000'.",
        f"{file}:12: clients.models.1 is {{'width': 3}}; it must be a model's name, or a mapping such as "
        "{name: mlp, width: 100}.",
        f"{file}:13: rounds is 0; it must be at least 1.",
        f"{file}:14: rounds is already set in line 13; remove one of them.",
        f"{file}:15: engine.kind is 'rai'; it must be 'inline', 'processes', 'ray', 'flower' or 'board'; "
        "did you mean 'ray'?",
        f"{file}:15: engine.workers is 'many'; it must be auto or a whole number of at least 1.",
        f"{file}:16: seed is 1.5; it must be a whole number.",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rounds: '3'", "rounds is '3'; it must be a whole number."),
        ("rounds: true", "rounds is true; it must be a whole number."),
        ("rounds:", "rounds is null; it must be a whole number."),
        ("seed: -1", "seed is -1; it must be at least 0."),
        ("participation: {fraction: 0}", "participation.fraction is 0; it must be greater than 0."),
        ("participation: {fraction: 1.5}", "participation.fraction is 1.5; it must be at most 1."),
        ("participation: {deadline_s: .inf}", "participation.deadline_s is inf; it must be a finite number."),
        ("data: {validation: 0.6}", "data.validation is 0.6; it must be at most 0.5."),
        ("data: {standardise: yes}", "data.standardise is 'yes'; it must be true or false."),
        ("data: {dataset: {}}", "data.dataset is {}; it must be a data set such as digits or 'npz:FILE', "
         "or a mapping from domains to data sets."),
        ("data: {target: x>0}", "data.target is 'x>0'; it must be a comparison such as 'y>0', or null."),
        ("data: {image: {size: 28, channels: 2}}", "data.image.channels is 2; it must be 1 or 3."),
        ("data: {transfer: {size: 5, rows: 6}}",
         "data.transfer.rows is 6; it must be at most the set's size, 5."),
        ("data: {partition: {kind: dirichelt}}", "data.partition.kind is 'dirichelt'; it must be one of iid, "
         "dirichlet, pathological, shard, domain, natural-id, ways-shots, whole-classes or "
         "'package.module:function'; did you mean 'dirichlet'?"),
        ("clients: {local: {momentum: 1, optimizer: sgd}}",
         "clients.local.momentum is 1; it must be less than 1."),
        ("clients: {local: {momentum: 0.9}}", "clients.local.momentum does not belong to optimizer 'adam', "
         "which has its own; it belongs to sgd."),
        ("clients: {models: []}", "clients.models is []; it must be given at least one entry."),
        ("clients: {models: 3}", "clients.models is 3; it must be a list."),
        ("clients: {models: {mlp: 0.5}}",
         "clients.models is {'mlp': 0.5}; it must be shares that add up to 1, not 0.5."),
        ("clients: {models: {mlp: -1, cnn: 1}}", "clients.models.mlp is -1; it must be greater than 0."),
        ("engine: {memory_limit: 4GB}",
         "engine.memory_limit is '4GB'; it must be a size such as 4GiB, or null."),
        ("engine: {cohort: false}",
         "engine.cohort is false; it must be auto, off or a whole number of at least 1."),
        ("allow: [weight]",
         "allow.0 is 'weight'; it must be 'weights' or 'features'; did you mean 'weights'?"),
        ("strategy: 3",
         "strategy is 3; it must be a mapping of settings (name, settings of its own)."),
        ("evaluate: 3", "evaluate is 3; it must be a mapping of settings (every)."),
        ("privacy: {mode: dp}",
         "privacy.mode is 'dp'; it must be 'none', 'dpsgd', 'proto_gauss', 'logit_gauss', 'vote_rr', "
         "'central_gauss' or 'vote_gnmax'."),
        ("2: 3", f"unknown key '2'; valid names are {', '.join(sorted(Scenario.model_fields))}."),
        ("Evaluates: 3", "unknown key 'Evaluates'; did you mean 'evaluate'?"),
        ("robust: {centre: mdian}", "robust.centre is 'mdian'; it must be 'mean', 'median', 'trimmed-mean' "
         "or 'geometric-median'; did you mean 'median'?"),
        ("robust: {filter: krum, hostile: 0.5}", "robust.hostile is 0.5; it must be less than 0.5."),
        ("attacks: [{clients: 2}]",
         "attacks.0.kind is missing; it must be given, such as 'kind: label-flip'."),
        ("attacks: [{kind: scale, clientz: 2}]",
         "unknown key 'attacks.0.clientz'; did you mean 'clients'?"),
        ("attacks: [{kind: echo, factor: 2}]",
         "attacks.0.factor does not belong to attack 'echo'; it belongs to scale."),
        ("attacks: [{kind: echo, clients: 0}]", "attacks.0.clients is 0; it must be a number of clients, "
         "a list of their names in quotes, or null."),
        ("churn: {dropout: 1}", "churn.dropout is 1; it must be less than 1."),
        ("data: {alpha: 3}", "unknown key 'data.alpha'; did you mean 'data.partition.alpha'?"),
        ("participation: {workers: 3}",
         "unknown key 'participation.workers'; did you mean 'engine.workers'?"),
        ("seed: !!int x", "seed is no valid int; it must be written as one."),
        ("strategy: {name: s, x: !mine 3}", "strategy.x has the tag '!mine'; it must be a plain value."),
        ("strategy: {name: s, x: &x [*x]}", "strategy.x.0 contains itself; it must be written out."),
        ("strategy: {name: s, [1]: 2}", "a key of strategy is a collection; it must be text."),
        ("strategy: {name: s, x: {y: 1, y: 2}}",
         "strategy.x.y is already set in line 2; remove one of them."),
    ],
)  # fmt: skip
def test_one_problem_one_sentence(text, sentence):
    assert about(text) == [f"scenario:2: {sentence}"]


@pytest.mark.parametrize(
    ("kind", "key", "belongs"),
    [
        ("iid", "alpha: 0.5", "dirichlet"),
        ("dirichlet", "sizes: linear", "iid"),
        ("iid", "classes_per_client: 2", "pathological and ways-shots"),
        ("domain", "shards_per_client: 2", "shard"),
        ("shard", "shots: 5", "ways-shots"),
        ("shard", "spread: -5", "ways-shots"),
        ("iid", "column: site", "natural-id"),
        (
            "ways-shots",
            "samples_per_client: 5",
            "iid and dirichlet and pathological and shard and domain and natural-id and whole-classes",
        ),
    ],
)
def test_a_partition_setting_of_another_kind_is_refused_by_name(kind, key, belongs):
    assert about(f"data: {{partition: {{kind: {kind}, {key}}}}}") == [
        f"scenario:2: data.partition.{key.split(':')[0]} does not belong to partition kind '{kind}'; "
        f"it belongs to {belongs}."
    ]


def test_a_partition_function_may_read_every_setting():
    s = load("name: a\ndata: {partition: {kind: 'my.module:deal', alpha: 2, shots: 3, column: c}}\n")
    assert (s.data.partition.alpha, s.data.partition.shots, s.data.partition.column) == (2.0, 3, "c")
    assert load(dump(s)) == s


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", " is empty; it must be a mapping of settings, such as 'name: my-run'."),
        ("# nothing\n", " is empty; it must be a mapping of settings, such as 'name: my-run'."),
        ("- a\n- b\n", " holds a list; it must be a mapping of settings, such as 'name: my-run'."),
        ("just words\n", " holds text; it must be a mapping of settings, such as 'name: my-run'."),
        ("name: a\ndata: [1\n", ":3: this is not valid YAML: expected ',' or ']', but got '<stream end>'."),
        ("name: a\nx: *y\n", ":2: this is not valid YAML: found undefined alias 'y'."),
        ("name: a\n---\nname: b\n", ":2: this is not valid YAML: but found another document."),
        ("name: a\x00", ":1: this is not valid YAML: special characters are not allowed."),
    ],
)  # fmt: skip
def test_a_file_that_is_no_scenario_at_all(tmp_path, text, sentence):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    assert problems(file, ["rounds=3"]) == [f"{file}{sentence}"]


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\n")
    assert problems(tmp_path / "x.yaml") == [f"{tmp_path}/x.yaml is not UTF-8 text; it must be a YAML file."]
    assert problems(tmp_path) == [
        f"{tmp_path} is a folder; a scenario must be a YAML file or the name of a bundled one."
    ]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder in the place of the bundled scenarios."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "knfu-mnist.yaml").write_text("name: knfu-mnist\nrounds: 4\n")
    (folder / "broken.yaml").write_text("name: broken\nrounds: 0\n")
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(loading, "files", lambda package: folder)
    monkeypatch.chdir(tmp_path)


def test_bundled_scenarios_are_found_by_name(shipped):
    assert bundled() == ["broken", "knfu-mnist"]
    assert load("knfu-mnist").rounds == load("knfu-mnist.yaml").rounds == 4
    assert problems("broken") == ["broken.yaml:2: rounds is 0; it must be at least 1."]
    assert problems("knfu-mnits") == [
        "there is no scenario 'knfu-mnits', neither a file nor bundled; did you mean 'knfu-mnist'?"
    ]
    assert problems("qqq") == [
        "there is no scenario 'qqq', neither a file nor bundled; valid names are broken, knfu-mnist."
    ]


def test_a_file_comes_before_a_bundled_name(shipped):
    Path("knfu-mnist").write_text("name: mine\n")
    assert load("knfu-mnist").name == "mine"


def test_without_bundled_scenarios_a_missing_file_is_still_one_sentence(monkeypatch):
    def absent(package):
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(loading, "files", absent)
    assert bundled() == []
    assert problems("qqq.yaml") == [
        "there is no scenario 'qqq.yaml', neither a file nor bundled; it must be the path of a YAML file."
    ]


# Overrides


def test_overrides_set_yaml_values_in_order():
    s = load(
        FULL, ["data.partition.alpha=1e-1", "seed=1", "seed=2", "allow=[features]", "data.transfer=null"]
    )
    assert (s.data.partition.alpha, s.seed, s.allow, s.data.transfer) == (0.1, 2, ("features",), None)


def test_an_override_replaces_a_part_whole_or_one_setting_of_it():
    assert load(FULL, ["strategy={name: local}"]).strategy == StrategySpec(name="local")
    assert load(FULL, ["strategy.beta=3"]).strategy.settings == {"beta": 3}
    assert load(FULL, ["strategy.text=a=b"]).strategy.settings == {"beta": 10, "text": "a=b"}
    assert second_model(load(FULL, ["clients.models.1.width=5"])).settings["width"] == 5


def test_an_override_creates_the_parts_on_its_way():
    s = load("name: a\ndata: {transfer: null}\n", ["data.transfer.size=5", "engine.kind=inline"])
    assert s.data.transfer is not None and s.data.transfer.size == 5
    assert s.engine.kind == "inline"


def test_problems_of_overrides_name_them_after_those_of_the_file():
    assert problems(
        "name: a\nrounds: 3\nseed: -1\n",
        [
            "rounds=0",
            "data.partion.alpha=1",
            "strategy={nam: knfu, name: 3}",
            "rounds.x=3",
            "clients.models=[mlp]",
            "clients.models.1=cnn",
            "seed",
            "a..b=1",
            "engine.kind=[",
        ],
    ) == [
        "scenario:3: seed is -1; it must be at least 0.",
        "--set rounds: rounds is 0; it must be at least 1.",
        "--set data.partion.alpha: unknown key 'data.partion'; did you mean 'partition'?",
        "--set strategy: strategy.name is 3; it must be text.",
        "--set rounds.x: rounds is 0, which has no settings within; set rounds itself.",
        "--set clients.models.1: clients.models is a list without place '1'; its places are 0 to 0.",
        "--set seed: this sets nothing; it must read KEY=VALUE, such as engine.kind=inline.",
        "--set a..b: this sets nothing; it must read KEY=VALUE, such as engine.kind=inline.",
        "--set engine.kind: this is not valid YAML: expected the node content, but found '<stream end>'.",
    ]


def test_an_override_mends_what_it_replaces():
    assert load("name: a\nrounds: -1\n", ["rounds=2"]).rounds == 2


def test_a_problem_beside_an_override_keeps_its_line():
    assert about("data:\n  partition:\n    alpha: -1", "data.partition.clients=3") == [
        "scenario:4: data.partition.alpha is -1; it must be greater than 0."
    ]


def test_parse_override():
    assert parse_override("a.b={c: [1e3, off]}") == (("a", "b"), {"c": [1000.0, "off"]})
    assert parse_override("a=") == (("a",), None)


# From Python, and back


def test_a_mapping_is_a_source_whose_problems_have_no_line():
    assert load({"name": "a", "rounds": 2}).rounds == 2
    assert problems({"rounds": 0}) == [
        "name is missing; it must be given, such as 'name: my-experiment'.",
        "rounds is 0; it must be at least 1.",
    ]


def test_a_mapping_is_not_changed_and_not_shared():
    source = {"name": "a", "strategy": {"name": "s", "layers": [1, 2]}}
    s = load(source, ["strategy.layers.0=5"])
    assert source == {"name": "a", "strategy": {"name": "s", "layers": [1, 2]}}
    assert s.strategy.settings == {"layers": [5, 2]}


def deal() -> None:
    """Stands for somebody's partition function."""


def test_functions_in_a_mapping_become_import_paths():
    s = load(
        {"name": "a", "data": {"dataset": deal, "partition": {"kind": deal}}, "strategy": {"name": deal}}
    )
    path = f"{__name__}:deal"
    assert (s.data.dataset, s.data.partition.kind, s.strategy.name) == (path, path, path)
    assert load({"name": "a", "strategy": {"name": lambda: 0}}).strategy.name == "here:lambda"
    (sentence,) = problems({"name": "a", "strategy": {"name": object()}})
    assert sentence.startswith("strategy.name: <object object")
    assert "define it at the top level of a module" in sentence


def test_numbers_of_numpy_become_plain_ones():
    np = pytest.importorskip("numpy")
    s = load({"name": "a", "seed": np.int64(3), "strategy": {"name": "s", "x": np.float32(0.5), "y": (1, 2)}})
    assert s.seed == 3 and type(s.seed) is int
    assert s.strategy.settings == {"x": 0.5, "y": [1, 2]}
    assert load(dump(s)) == s


def test_a_scenario_is_a_source_too():
    s = load(FULL)
    assert load(s) == s
    assert load(s, ["seed=9"]).seed == 9


@pytest.mark.parametrize(
    "text", ["name: a\n", FULL, "name: '1e5'\nstrategy: {name: s, a: '1e-5', b: 'off', c: '0o7'}\n"]
)
def test_what_is_written_is_read_again(text):
    s = load(text)
    assert load(dump(s)) == s
    assert from_dict(to_dict(s)) == s
    assert from_dict(json.loads(json.dumps(to_dict(s)))) == s
    assert pickle.loads(pickle.dumps(s)) == s


def test_every_part_takes_part_in_equality():
    s = load(FULL)
    assert load(FULL, ["strategy.beta=11"]) != s
    assert load(FULL, ["clients.models.1.width=7"]) != s
    assert load(FULL, ["data.partition.alpha=0.6"]) != s


def test_dump_writes_every_default_and_only_the_settings_of_the_kind():
    written = yaml.safe_load(dump(load("name: a\ndata: {partition: {kind: iid}, transfer: {size: 5}}\n")))
    assert written["data"]["partition"] == {
        "kind": "iid", "clients": 10, "samples_per_client": None, "sizes": "equal", "min_samples": 1,
    }  # fmt: skip
    assert written["data"]["transfer"] == {
        "from": "train", "size": 5, "policy": None, "rows": None, "equal_steps": False, "keep": None,
        "audition": [], "refresh": "never", "generator": {},
    }  # fmt: skip
    assert written["strategy"] == {"name": "dwc"}
    assert list(written) == list(Scenario.model_fields)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))
    | st.sampled_from(
        ["1e5", "0x1F", "010", "off", "yes", "~", "1:30", ".5", "2020-01-01", "<<", "a: b", "- x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:#'1e", max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_any_setting_of_a_strategy_survives_being_written(value):
    s = load({"name": "a", "strategy": {"name": "s", "x": value}})
    again = load(dump(s))
    assert again == s
    assert repr(again.strategy.settings) == repr(s.strategy.settings)  # 1, 1.0 and True are equal


def test_a_strategy_takes_its_settings_flat_or_as_one_argument():
    assert StrategySpec(name="knfu", settings={"beta": 3}) == StrategySpec(name="knfu", beta=3)


def test_nothing_can_be_changed_afterwards():
    s = load("name: a\n")
    with pytest.raises(ValueError, match="frozen"):
        setattr(s, "rounds", 3)  # noqa: B010  (a type checker refuses the plain assignment)


def test_importing_it_imports_nothing_heavy():
    heavy = ("torch", "flwr", "ray", "pandas", "numpy", "sklearn", "matplotlib")
    code = f"import sys, fedkt.scenario, fedkt.registry; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_public_names_exist():
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("text", "overrides", "strategy", "models"),
    [
        ("strategy: fd", [], {"name": "fd"}, ["mlp"]),
        ("clients: {models: cnn}", ["strategy=fedmd"], {"name": "fedmd"}, ["cnn"]),
        ("strategy: knfu", ["strategy.beta=3"], {"name": "knfu", "beta": 3}, ["mlp"]),
        (
            "clients: {models: {name: mlp, width: 8}}",
            ["strategy={name: fd}"],
            {"name": "fd"},
            [{"name": "mlp", "width": 8}],
        ),
        (
            "clients: {models: [mlp, cnn]}\nstrategy: fd",
            ["clients.models.0.width=8"],
            {"name": "fd"},
            [{"name": "mlp", "width": 8}, "cnn"],
        ),
    ],
)
def test_a_bare_name_stands_for_the_part(text, overrides, strategy, models):
    found = to_dict(load(f"name: a\n{text}", overrides))
    assert (found["strategy"], found["clients"]["models"]) == (strategy, models)


def test_a_name_of_something_else_has_no_settings_within():
    with pytest.raises(InputError, match="name is 'a', which has no settings within"):
        load({"name": "a"}, ["name.x=1"])
