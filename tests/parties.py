"""Small federations of parties that differ: other models, tables, columns, classes and tasks.

Tests of engines and of sites run all of them: each must give the same numbers everywhere.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SITES = ("a", "b", "c")
CLASSES = ("cold", "flu", "mould", "well")
HELD = {"a": (0, 1, 3), "b": (1, 2, 3), "c": (0, 2, 3)}
"""The classes of which each site has rows."""
OWN_NAMES = {"b": {"Grippe": "flu", "Pilz": "mould", "gesund": "well"}}
COLUMNS = {"a": ["c0", "c1", "kind"], "b": ["c0", "c2", "kind"], "c": ["c1", "c2", "c3"]}
ROWS, TRANSFER = 60, 80


def write(folder: Path) -> None:
    """Write a table of each site, ``SITE.csv``, and one of rows that all can see, ``common.csv``.

    Beside four columns of numbers and one of three words: ``class`` under the site's own names, ``c`` (0, 1),
    three labels ``l0 l1 l2``, two numbers ``t0 t1`` and a ``note`` of a few words.
    """
    for seed, (site, classes) in enumerate(HELD.items()):
        table = rows(classes, ROWS, seed)
        back = {common: own for own, common in OWN_NAMES.get(site, {}).items()}
        table["class"] = [back.get(name, name) for name in table["class"]]
        table.to_csv(folder / f"{site}.csv", index=False)
    rows((0, 1, 2, 3), TRANSFER + 8, 9).to_csv(folder / "common.csv", index=False)
    write_links(folder / "links")


def write_links(folder: Path) -> None:
    """Write links of each site, ``SITE.txt``, some of them for its tests, and candidates, ``common.txt``.

    Nine people in a ring; each site knows of another relation who follows whom.
    """
    folder.mkdir()
    names = [f"p{k}" for k in range(9)]
    (folder / "entities.txt").write_text("\n".join(names))
    (folder / "relations.txt").write_text("\n".join(SITES))
    for step, site in enumerate(SITES, 1):
        links = [f"{name}\t{site}\t{names[(k + step) % 9]}" for k, name in enumerate(names)]
        (folder / f"{site}.txt").write_text("\n".join(links))
    common = [f"{names[k]}\t{SITES[k % 3]}\t{names[(k + 5) % 9]}" for k in range(9)]
    (folder / "common.txt").write_text("\n".join(common))


def rows(classes: tuple[int, ...], count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = np.array(classes)[np.arange(count) % len(classes)]
    x = rng.normal(0, 0.6, (count, 4)) + 2 * np.eye(4)[y]
    table = pd.DataFrame(x, columns=["c0", "c1", "c2", "c3"])
    table["kind"] = np.array(["p", "q", "r"])[rng.integers(0, 3, count)]
    table["class"] = [CLASSES[k] for k in y]
    table["c"] = (x[:, 0] + x[:, 1] > 1).astype(int)
    for place in range(3):
        table[f"l{place}"] = (x[:, place] + x[:, place + 1] > 1).astype(int)
    names = table["class"] + " " + table["kind"].map({"p": "né", "q": "or not", "r": "again"})
    table["note"] = [f"the {name} at {at:.5f}, {name}" for name, at in zip(names, x[:, 0], strict=True)]
    table["t0"], table["t1"] = 10 * x[:, 0] + x[:, 1], 5 * x[:, 2] - x[:, 3]
    return table


def described(case: str, **more: Any) -> dict[str, Any]:
    """Return a scenario of one case; its files lie in the data folder."""
    data, clients, strategy = _CASES[case]
    common = {
        "dataset": {site: f"csv:{site}.csv" for site in SITES},
        "partition": {"kind": "domain"},
        "transfer": {"from": "csv:common.csv", "size": TRANSFER},
        "standardise": True,
    }
    return {
        "name": case,
        "data": common | data,
        "clients": {"models": ["tabular"], "local": {"epochs": 2, "lr": 0.01}} | clients,
        "strategy": strategy,
        "rounds": 2,
        "engine": {"kind": "inline", "cohort": "off"},
        **more,
    }


def _but(*kept: str) -> dict[str, Any]:
    """Name the columns of targets, and drop those of others."""
    targets = ("class", "c", "l0", "l1", "l2", "t0", "t1", "note")
    return {"drop": [name for name in targets if name not in kept]}


def _text(compare: str) -> dict[str, Any]:
    """Name the column of text, and what of it is compared."""
    speech = {"passage": 40, "top": 4, "places": 10, "compare": compare}
    return {"task": "language", "columns": ["note"], "speech": speech, "standardise": False}


_DECODERS = {
    "models": [
        {"name": "lm", "tokens": tokens, "width": 8, "grams": [2], "hashes": 64} for tokens in (256, 270, 290)
    ]
}
_KINDS = {"kind": ["p", "q", "r"]}
_CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "estimators": (
        {"label": "c", **_but("c"), "categories": _KINDS},
        {
            "models": [
                {"name": "sklearn", "estimator": "RandomForestClassifier", "n_estimators": 4},
                {"name": "sklearn", "estimator": "LogisticRegression"},
                "tabular",
            ]
        },
        "dwc",
    ),
    "columns": (
        {"label": "c", "columns": COLUMNS, "categories": _KINDS, "missing": "mean"},
        {},
        "knfu",
    ),
    "labels": (
        {
            "label": "class",
            **_but("class"),
            "categories": _KINDS,
            "labels": "per-site",
            "label_maps": OWN_NAMES,
            "classes": list(CLASSES),
        },
        {},
        "dwc",
    ),
    "others": (
        {
            "label": "class",
            **_but("class"),
            "categories": _KINDS,
            "labels": "per-site",
            "label_maps": OWN_NAMES,
            "classes": list(CLASSES),
            "learn_others": True,
        },
        {},
        "dwc",
    ),
    "multilabel": (
        {"label": ["l0", "l1", "l2"], "task": "multilabel", **_but("l0", "l1", "l2"), "categories": _KINDS},
        {},
        "dwc",
    ),
    "regression": (
        {
            "label": ["t0", "t1"],
            "task": "regression",
            "targets": [[-60, 60], [-30, 30]],
            **_but("t0", "t1"),
            "categories": _KINDS,
        },
        {},
        "knfu",
    ),
    "number": (
        {"label": "t0", "task": "regression", "targets": [[-60, 60]], **_but("t0"), "categories": _KINDS},
        {},
        "fedmd",
    ),
    "language": (_text("bytes"), _DECODERS, "knfu"),
    "tokens": (_text("tokens"), _DECODERS, {"name": "fedmd", "average": "probabilities"}),
    "links": (
        {
            "dataset": {site: f"triples:links/{site}.txt" for site in SITES},
            "task": "links",
            "transfer": {"from": "triples:links/common.txt", "size": 9},
            "standardise": False,
        },
        {"models": [{"name": "kge", "width": 4}, {"name": "kge", "score": "mlp", "width": 4}]},
        "held",
    ),
}
CASES = tuple(_CASES)
