"""Every setting counts or is refused; what a file says for another strategy is told, and left out."""

import hashlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import fedkt
from fedkt import registry
from fedkt.comparing.grammar import grid, methods
from fedkt.comparing.plan import Plan, Request, plan
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.world import unused
from fedkt.engine.world.unused import fitted, settings_notes
from fedkt.errors import InputError
from fedkt.files import read_tensors
from fedkt.results.observer import Silent
from fedkt.scenario import dump, from_dict, load

REFUSED = "refused"
WRONG = ("silent", "refused, but counts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of 3 classes that overlap."""
    made = tmp_path_factory.mktemp("counts")
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = (rng.normal(0, 1.5, (240, 6)) + 2 * np.eye(3, 6)[y]).astype(np.float32)
    np.savez(made / "rows.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    return made


def tiny(strategy: str, rounds: int = 2) -> dict[str, Any]:
    return {
        "name": "tiny",
        "data": {
            "dataset": "npz:rows.npz",
            "partition": {"kind": "dirichlet", "alpha": 1.0, "clients": 3, "samples_per_client": 20},
            "transfer": {"from": "train", "size": 30},
            "public": {"from": "train", "size": 20},
        },
        "clients": {
            "models": [{"name": "mlp", "hidden": [8], "width": 6}],
            "local": {"epochs": 2, "batch_size": 8},
        },
        "strategy": {"name": strategy},
        "rounds": rounds,
        "allow": ["weights", "features"],
        "engine": {"kind": "inline", "cohort": "off"},
    }


def changed(made: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return the scenario with settings changed: ``data__transfer__rows=10``."""
    made = deepcopy(made)
    for path, value in settings.items():
        *parts, last = path.split("__")
        at = made
        for part in parts:
            if at.get(part) is None:
                at[part] = {}
            at = at[part]
        at[last] = value
    return made


def bits(made: dict[str, Any], folder: Path, out: Path) -> str:
    """Return a hash of all that a run leaves behind but times, or how its settings were refused."""
    try:
        fedkt.simulate(made, out=out, data_dir=folder, observer=Silent())
    except InputError as error:
        return f"{REFUSED}: {' '.join(error.problems)}"
    digest = hashlib.sha256()
    for file in sorted((out / "checkpoint").rglob("*.safetensors")):
        for name, tensor in sorted(read_tensors(file)[0].items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    for name in ("clients.jsonl", "rounds.jsonl"):
        for line in (out / name).read_text().splitlines():
            told = {key: value for key, value in json.loads(line).items() if not key.endswith("_s")}
            digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()


def outcome(
    made: dict[str, Any],
    other: dict[str, Any],
    folder: Path,
    out: Path,
    known: dict[str, str] | None = None,
) -> str:
    """Say what comes of a change: ``counts``, ``refused``, or one of ``WRONG``.

    ``known``: the bits of runs by their scenario, as JSON.
    """
    first = (known or {}).get(json.dumps(made)) or bits(made, folder, out / "first")
    second = bits(other, folder, out / "second")
    assert not first.startswith(REFUSED), first
    if second.startswith(REFUSED) and "makes nothing of" in second:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(unused, "spare", lambda *_: {})
            anyway = bits(other, folder, out / "anyway")
        return REFUSED if anyway == first or anyway.startswith(REFUSED) else "refused, but counts"
    if second.startswith(REFUSED):
        return REFUSED
    return "silent" if first == second else "counts"


# The temperature ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["knfu", "ktpfl", "dsfl"])
def test_the_temperature_of_the_scenario_counts(strategy: str, folder: Path, tmp_path: Path) -> None:
    made = tiny(strategy, rounds=1)
    assert outcome(made, changed(made, clients__distill__temperature=8.0), folder, tmp_path) == "counts"


@pytest.mark.parametrize(
    ("strategy", "given", "expected"),
    [
        ("knfu", None, 1.0),
        ("knfu", 4.0, 4.0),
        ("ktpfl", None, 10.0),
        ("ktpfl", 1.0, 1.0),
        ("fedmd", None, 1.0),
    ],
)
def test_whose_temperature_is_taken(
    strategy: str, given: float | None, expected: float, folder: Path
) -> None:
    made = changed(tiny(strategy), clients__distill__temperature=given)
    assert checked_world(from_dict(made), folder).settings["temperature"] == expected


@pytest.mark.parametrize("strategy", ["knfu", "ktpfl"])
def test_two_temperatures_are_one_too_many(strategy: str, folder: Path) -> None:
    made = changed(tiny(strategy), clients__distill__temperature=8.0, strategy__temperature=2.0)
    with pytest.raises(InputError) as told:
        checked_world(from_dict(made), folder)
    assert told.value.problems == (
        f"clients.distill.temperature is 8, but strategy '{strategy}' takes 2 for it; here it belongs to "
        "strategy.temperature, so leave clients.distill.temperature out.",
    )
    same = changed(made, clients__distill__temperature=2.0)
    assert checked_world(from_dict(same), folder).settings["temperature"] == 2.0


@pytest.mark.parametrize(("strategy", "loss"), [("fedmd", "mae"), ("comet", "mse")])
def test_a_loss_of_logits_takes_no_temperature(strategy: str, loss: str, folder: Path) -> None:
    made = changed(tiny(strategy), clients__distill__temperature=3.0)
    with pytest.raises(InputError, match=f"loss '{loss}' of strategy '{strategy}' compares logits as they"):
        checked_world(from_dict(made), folder)
    checked_world(from_dict(changed(made, clients__distill__loss="kl")), folder)


def test_the_server_s_model_has_a_loss_and_a_temperature_of_its_own(folder: Path, tmp_path: Path) -> None:
    made = changed(tiny("fedmd", rounds=1), server_model={"model": "mlp", "distill": {"loss": "kl"}})
    hot = changed(made, server_model__distill__temperature=6.0)
    assert outcome(made, hot, folder, tmp_path) == "counts"


# What another setting takes the effect from ---------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("participation: {retries: 5}", "participation.retries has no effect with no_quorum skip"),
        ("robust: {hostile: 0.1}", "robust.hostile has no effect here; it belongs to trimmed-mean"),
        ("robust: {filter: krum, least: 0.1}", "robust.least has no effect here; it belongs to cosine"),
        ("robust: {filter: krum, probe_rows: 9}", "robust.probe_rows has no effect here"),
        ("churn: {slowdown: 4}", "churn.slowdown has no effect while stragglers is 0"),
        ("churn: {join_by: 4}", "churn.join_by has no effect while late_joiners is 0"),
        ("churn: {leave_from: 4}", "churn.leave_from has no effect while leavers is 0"),
        ("clients: {distill: {momentum: 0.9}}", "which does not belong to optimizer 'adam'"),
    ],
)
def test_what_nothing_reads_is_refused(settings: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load(f"name: a\n{settings}\n")


@pytest.mark.parametrize(
    "settings",
    [
        "participation: {no_quorum: repeat, retries: 5}",
        "robust: {centre: trimmed-mean, hostile: 0.1}",
        "robust: {filter: probe, least: 0.1, probe_rows: 9}",
        "churn: {stragglers: 0.5, slowdown: 4, late_joiners: 0.5, join_by: 4, leavers: 0.1, leave_from: 4}",
        "clients: {local: {optimizer: sgd}, distill: {momentum: 0.9}}",
    ],
)
def test_what_is_read_is_read_again_from_the_resolved_file(settings: str) -> None:
    found = load(f"name: a\n{settings}\n")
    assert load(dump(found)) == found
    plain = load("name: a\nrounds: 3\n")
    assert load(dump(plain)) == plain
    assert "retries: 3" in dump(plain)  # written out, as every default is


def test_durations_alone_make_messages_late() -> None:
    """600 s is the deadline: clients that take longer are late, whether or not they come and go."""
    assert load("name: a\nchurn: {seconds: 700}\n").churn.active
    assert load("name: a\nchurn: {spread: 2}\n").churn.active
    assert not load("name: a\nchurn: {seconds: 1, spread: 0.5}\n").churn.active


@pytest.mark.parametrize(
    ("strategy", "settings", "sentence"),
    [
        (
            "fedka",
            {"matching": False, "weight": 2.0},
            "strategy.weight has no effect while strategy.matching",
        ),
        ("fedka", {"embedding": "moments", "numbers": 64}, "strategy.numbers has no effect with"),
        ("fedka", {"voting": "off", "threshold": 0.5}, "strategy.threshold has no effect while"),
        (
            "fedka_weights",
            {"voting": False, "steps": 5},
            "strategy.steps has no effect while strategy.voting",
        ),
    ],
)
def test_settings_of_a_part_that_is_off(
    strategy: str, settings: dict[str, Any], sentence: str, folder: Path
) -> None:
    made = changed(tiny(strategy), strategy={"name": strategy, **settings})
    with pytest.raises(InputError, match=sentence):
        checked_world(from_dict(made), folder)


def test_pretraining_without_public_rows_and_changes_of_other_rows(folder: Path) -> None:
    with pytest.raises(InputError, match="pretrain has no effect without public rows"):
        checked_world(from_dict(changed(tiny("fedmd"), data__public=None, strategy__pretrain=3)), folder)
    with pytest.raises(InputError, match="delta has no effect where each round asks for other rows"):
        checked_world(from_dict(changed(tiny("cfd"), data__transfer__rows=10, strategy__delta=True)), folder)


SPARE = {"clients__distill__temperature": 3.0, "clients__distill__epochs": 1, "data__transfer__rows": 10}
"""What knfu reads and fd does not."""


def told(folder: Path, made: dict[str, Any], *overrides: str) -> list[str]:
    return settings_notes(checked_world(load(made, overrides), folder))


def test_what_a_strategy_makes_nothing_of_is_refused(folder: Path) -> None:
    with pytest.raises(InputError) as found:
        told(folder, changed(tiny("fd"), **SPARE))
    assert found.value.problems == (
        "strategy 'fd' makes nothing of clients.distill.epochs, clients.distill.temperature, "
        "data.transfer.rows; leave them out.",
    )
    assert told(folder, changed(tiny("knfu"), **SPARE)) == []
    with pytest.raises(InputError, match=r"makes nothing of data\.transfer\.policy; leave it out"):
        told(folder, tiny("fd"), "data.transfer.policy=entropy")


@pytest.mark.parametrize("strategy", ["local", "central"])
def test_nobody_is_guarded_where_nobody_teaches(strategy: str, folder: Path) -> None:
    made = changed(tiny("knfu"), clients__guard__validation=0.3)
    with pytest.raises(InputError, match=rf"'{strategy}' makes nothing of clients\.guard; leave it out"):
        told(folder, made | {"strategy": {"name": strategy}})
    assert told(folder, made, f"strategy={strategy}") == [
        f"strategy '{strategy}' makes nothing of clients.guard, so it is left out."
    ]
    assert told(folder, made) == []


def test_what_a_file_says_for_the_strategy_that_was_replaced_is_told(folder: Path) -> None:
    """One file serves several strategies; what was given beside the new one was meant for it."""
    made = changed(tiny("knfu"), **SPARE)
    for replacing in ("strategy.name=fd", "strategy={name: fd}", "strategy=fd"):
        assert told(folder, made, replacing) == [
            "strategy 'fd' makes nothing of clients.distill.epochs, clients.distill.temperature, "
            "data.transfer.rows, so they are left out."
        ]
        for order in (1, -1):  # whichever comes first on the command line
            given = [replacing, "clients.distill.temperature=4"][::order]
            with pytest.raises(InputError, match=r"nothing of clients\.distill\.temperature; leave it out"):
                told(folder, made, *given)
    assert told(folder, made, "strategy.name=knfu", "clients.distill.temperature=4") == []


def test_what_was_left_out_is_not_in_the_resolved_file(folder: Path, tmp_path: Path) -> None:
    """So that a run's scenario.yaml can be run again, and runs of the same bits have the same file."""
    fedkt.simulate(
        changed(tiny("knfu", rounds=1), **SPARE), ["strategy.name=fd"], out=tmp_path / "a", data_dir=folder
    )
    fedkt.simulate(tiny("fd", rounds=1), out=tmp_path / "b", data_dir=folder)
    resolved = (tmp_path / "a/scenario.yaml").read_text()
    assert resolved == (tmp_path / "b/scenario.yaml").read_text()
    assert told(folder, load(resolved)) == []  # type: ignore[arg-type]


def test_whom_a_setting_was_written_for_survives_python(folder: Path) -> None:
    """A scenario that was loaded and loaded again still knows what was not meant for its strategy."""
    replaced = load(changed(tiny("knfu"), **SPARE), ["strategy.name=fd"])
    assert load(replaced) == load(dump(replaced)) == replaced
    assert fitted(load(replaced, ["rounds=3"]))[1] == [
        "clients.distill.epochs",
        "clients.distill.temperature",
        "data.transfer.rows",
    ]
    with pytest.raises(InputError, match=r"nothing of clients\.distill\.epochs; leave it out"):
        told(folder, load(replaced, ["clients={distill: {epochs: 2}}"]))  # type: ignore[arg-type]


def test_a_comparison_tells_what_one_strategy_and_refuses_what_all_make_nothing_of(folder: Path) -> None:
    def planned(*overrides: str, strategies: str | None = None) -> Plan:
        named = methods(strategies) if strategies else []
        fixed, conditions = grid(overrides)
        asked = Request([changed(tiny("knfu"), **SPARE)], named, overrides=fixed, conditions=conditions)
        return plan(asked, folder)

    both = planned("clients.distill.temperature=2,4", strategies="knfu,fd")
    assert both.notes == [
        "strategy 'fd' makes nothing of clients.distill.epochs, clients.distill.temperature, "
        "data.transfer.rows, so they are left out."
    ]
    ways = [(cell.method.name, cell.path.split("/")[-2]) for cell in both.cells]
    assert sorted(set(ways)) == [
        ("central", "default"),
        ("fd", "default"),
        ("knfu", "temperature=2"),
        ("knfu", "temperature=4"),
        ("local", "default"),
    ]
    with pytest.raises(InputError) as found:
        planned("clients.distill.temperature=2,4", "data.transfer.policy=entropy", strategies="fd,fedproto")
    assert found.value.problems == tuple(
        f"--set {key}: no strategy of this comparison makes anything of it; leave it out."
        for key in ("data.transfer.policy", "clients.distill.temperature")
    )
    own = planned()
    assert not own.notes and {cell.method.name for cell in own.cells} == {"knfu", "local", "central"}


def test_dsfl_says_where_it_flattens(folder: Path) -> None:
    """By hand: of .5 beside K - 1 equal others, T is neutral where exp((.5 - .5/(K - 1))/T) is K - 1."""
    from torch import full

    from fedkt.strategies.dsfl import DSFL, DSFLConfig, era, sharpens_below

    assert sharpens_below(144) == pytest.approx(
        0.100044, abs=1e-6
    )  # (.5 - .003497) / ln 143 = .496503/4.962845
    assert sharpens_below(145) == pytest.approx(0.099909, abs=1e-6)
    paper = DSFLConfig()
    assert DSFL.notes(paper, 144) == DSFL.notes(paper, 2) == []
    assert DSFL.notes(paper, 200) == [
        "strategy.era_temperature is 0.1, which makes a mean prediction of 0.5 flatter, not sharper, where "
        "there are 200 classes; below 0.094 it is sharpened."
    ]
    for classes, sharper in ((144, True), (145, False)):
        mean = full((1, classes), 0.5 / (classes - 1)).double()
        mean[0, 0] = 0.5
        assert bool(era(mean, 0.1)[0, 0] > 0.5) == sharper


STEPS = {"together", "weigh", "epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay"}
WRITTEN: dict[str, Any] = {
    "clients": {
        "local": {"optimizer": "sgd"},
        "distill": {
            "together": True,
            "weigh": "likeness",
            "epochs": 2,
            "batch_size": 7,
            "optimizer": "sgd",
            "lr": 0.1,
            "momentum": 0.5,
            "weight_decay": 0.1,
            "temperature": 3.0,
            "loss": "dkd",
        },
    },
    "data": {"transfer": {"size": 30, "rows": 10, "policy": "entropy"}},
}
READS = {"fedka": STEPS, "feddf": {"loss", "temperature"}, "fedgkt": {"loss", "temperature"}}
"""What strategies read of ``clients.distill`` that do neither read all nor nothing of it."""
ALL = (
    "cfd comd comet complementary dsfl dwc dynamic_logits fedmd held knfu kshot ktpfl selective_fd"
    " transferability"
)
ROWS = {*ALL.split(), "fedka"}
"""Those that ask about rows of the transfer set."""


@pytest.mark.parametrize("strategy", registry.names("strategies"))
def test_what_each_strategy_makes_nothing_of(strategy: str) -> None:
    """The slow test below runs all of this; here it is written out."""
    reads = {*STEPS, "loss", "temperature"} if strategy in ALL.split() else READS.get(strategy, set())
    nothing = [f"clients.distill.{key}" for key in WRITTEN["clients"]["distill"] if key not in reads]
    nothing += [] if strategy in ROWS else ["data.transfer.rows", "data.transfer.policy"]
    kind = registry.find("strategies", strategy)
    found = unused.spare(from_dict({"name": "a", **WRITTEN, "strategy": {"name": strategy}}), kind)
    assert found == dict.fromkeys(nothing, True)
    left, out = fitted(load({"name": "a", **WRITTEN}, [f"strategy.name={strategy}"]))
    assert set(out) == (set() if strategy == "knfu" else set(nothing))
    assert unused.spare(left, kind) == {}


# All of them ----------------------------------------------------------------------------------------

EVERYWHERE: dict[str, dict[str, Any]] = {
    "temperature": {"clients__distill__temperature": 3.0},
    "loss": {"clients__distill__loss": "dkd"},
    "epochs": {"clients__distill__epochs": 2},
    "batch_size": {"clients__distill__batch_size": 7},
    "optimizer": {"clients__distill__optimizer": "sgd"},
    "lr": {"clients__distill__lr": 0.01},
    "momentum": {"clients__distill__optimizer": "sgd", "clients__distill__momentum": 0.5},
    "weight_decay": {"clients__distill__weight_decay": 0.1},
    "weigh": {"clients__distill__weigh": "likeness"},
    "local epochs": {"clients__local__epochs": 3},
    "local steps": {"clients__local__steps": 2},
    "local lr": {"clients__local__lr": 0.01},
    "local decay": {"clients__local__weight_decay": 0.1},
    "transfer size": {"data__transfer__size": 31},
    "transfer rows": {"data__transfer__rows": 10},
    "equal steps": {"data__transfer__rows": 10, "data__transfer__equal_steps": True},
    "public size": {"data__public__size": 21},
    "alpha": {"data__partition__alpha": 0.5},
    "validation": {"data__validation": 0.2},
    "standardise": {"data__standardise": True},
    "fraction": {"participation__fraction": 0.5},
    "withdrawn": {"participation__withdrawn": {"0": 2}},
    "blocked": {"participation__blocked": {"0": [1]}},
    "guard": {"clients__guard": {"validation": 0.3}},
    "robust centre": {"robust": {"centre": "median"}},
    "robust filter": {"robust": {"filter": "krum", "hostile": 0.3}},
    "server model": {"server_model": {"model": {"name": "mlp", "width": 5}}},
    "churn": {"churn": {"leavers": 0.4}},
    "hostile": {"hostile": {"share": 0.4, "attack": "noise"}},
    "placebo": {"placebo": True},
    "forecast": {"forecast": "decline"},
    "seed": {"seed": 1},
    "rounds": {"rounds": 1},
}
"""Settings of the schema that any strategy may count, refuse, or make nothing of."""
AMONG = {"robust centre": {"data__partition__clients": 6}}
"""What they need beside them: a median of two is their mean."""

ANOTHER: dict[str, Any] = {
    "clusters": 3,
    "exchange": "probabilities",
    "average": "probabilities",
    "epd": "labels",
    "direction": "reverse",
    "loss": "nd",
    "model": {"name": "mlp", "hidden": [9], "width": 6},
    "bandwidths": [1.0],
    "shifted": ["1"],
    "embedding": "moments",
    "numbers": 64,
    "noise": 30,
    "tau": 0.5,
    "batch_size": 5,
}
BASE = {"kshot": {"strategy__rows": 10}}
"""What a strategy needs in a run this small."""
CONTEXT: dict[tuple[str, str], dict[str, Any]] = {
    ("dsfl", "abstain"): {"to": 0.9},
    ("fedka", "voting"): {"to": "majority"},
    ("fedka", "weight"): {"strategy__by_consensus": False},
    ("fedka_weights", "threshold"): {"to": 1.0},
    ("fedprox", "mu"): {"to": 5.0},
    ("fedpcl", "negatives"): {"strategy__hard": 0.5},
    ("fedtgp", "tau"): {"to": 1e-4},
    ("selective_fd", "quantile"): {"to": 1.0},
    ("selective_fd", "noise"): {"to": 5},
    ("fedhkd", "noise"): {"to": 0.5},
    ("dwc", "sharpness"): {"strategy__weights": "energy"},
    ("dynamic_logits", "top"): {"strategy__alpha": "search"},
    ("dynamic_logits", "step"): {"strategy__alpha": "search"},
    ("dwc", "smoothing"): {"strategy__weights": "aligned"},
    ("knfu", "noise"): {
        "to": "count",
        "privacy": {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}
        | {"deterministic_noise": True},
        "clients__local__optimizer": "sgd",
    },
    ("fedproto", "anchors"): {"strategy__space": "relative", "strategy__anchors": 10, "to": 5},
}
"""What a setting is changed to, or needs beside it, so that it can be seen to count in a run this small."""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", registry.names("strategies"))
def test_every_setting_for_every_strategy(strategy: str, folder: Path, tmp_path: Path) -> None:
    made = changed(tiny(strategy), **BASE.get(strategy, {}))
    known = {json.dumps(made): bits(made, folder, tmp_path / "base")}
    silent = []
    for name, settings in EVERYWHERE.items():
        base = changed(made, **AMONG.get(name, {}))
        found = outcome(base, changed(base, **settings), folder, tmp_path / name, known)
        silent += [f"{name}: {found}"] if found in WRONG else []
    config = registry.find("strategies", strategy).Config
    for name, field in config.model_fields.items():
        more = dict(CONTEXT.get((strategy, name), {}))
        default = field.get_default(call_default_factory=True)
        to = more.pop("to", ANOTHER.get(name))
        if to is None and isinstance(default, str):
            to = next(choice for choice in get_args(field.annotation) if choice != default)
        if to is None:
            to = (
                not default
                if isinstance(default, bool)
                else default + 1
                if isinstance(default, int)
                else None
            )
        if to is None:
            to = 0.7 if default is None or default == 0 else default / 2
        base = changed(made, **more)
        other = changed(base, **{f"strategy__{name}": to})
        if outcome(base, other, folder, tmp_path / f"strategy-{name}", known) in WRONG:
            silent.append(f"strategy.{name}")
    assert silent == []
