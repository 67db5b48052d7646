"""What is told of a forgetting: ``forget.json``, a page for the data protection officer, a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkt import scenario as scenarios
from fedkt.drawing import blank, write_picture
from fedkt.engine.forgetting.withdrawal import Forgotten
from fedkt.engine.loop.recording import FOLDER
from fedkt.files import write_atomic, write_json

JSON, PAGE, PICTURE = "forget.json", "forget.md", "forget.svg"
LABELS = {
    "forgotten": "accuracy on what was forgotten",
    "rest": "accuracy on the rest",
    "kl": "divergence from the replay (nats)",
    "loss_attack": "loss attack (AUC)",
    "paired_attack": "paired attack, old and new version (AUC)",
    "relearning_steps": "steps to learn it again",
    "probe": "probe of the features (AUC)",
}
DONE = {
    "replay": "The run was run again from {start}, as if it had never been learned. This is exact: the "
    "same numbers "
    "as in a run in which it was never there.",
    "own": "The client's own run was run again from its first weights, among what the others contributed "
    "then. They had learned from it, so an echo stays; the others' models were not changed.",
    "fresh": "The client's model was replaced by one from new random weights, which learned from the rows "
    "that stay "
    "and from its last teacher; the others' models were not changed.",
}


def tell(run: Path, forgotten: Forgotten, judged: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write ``forget.json``, ``forget.md`` and, where it was judged, ``forget.svg`` into the new run's
    folder."""
    what, folder = forgotten.what, forgotten.result.path
    told: dict[str, Any] = {
        "run": str(run),
        "id": _id(run),
        "forgotten": forgotten.words,
        "clients": list(what.clients),
        "class": what.label,
        "rows": len(what.rows),
        "how": what.how,
        "from_round": forgotten.start,
        "seconds": round(forgotten.seconds, 3),
        "still_held": still_held(run, folder, what.clients),
        "ledger": ledger(run),
        "judged": None if judged is None else dict(judged),
    }
    write_json(folder / JSON, told)
    write_atomic(folder / PAGE, page(told, folder).encode())
    if judged is not None:
        draw(told, folder / PICTURE)
    return told


def still_held(run: Path, folder: Path, clients: tuple[str, ...]) -> list[str]:
    """Return what still holds a contribution, in sentences: what was found beside the run, and what may
    be."""
    found = [f"{run}: models, teachers and figures that were made with it; delete the folder."]
    if (run / FOLDER).is_dir():
        found.append(
            f"{run / FOLDER}: what all clients contributed, which `--how own` reads; delete it with the run."
        )
    mine = _id(run)
    for file in sorted(run.parent.rglob("model.json")):
        about = _read(file)
        if about.get("run") == mine:
            found.append(f"{file.parent}: client {about.get('client')}'s exported model; delete it.")
    for file in sorted(run.parent.rglob(JSON)):
        if file.parent != folder and _read(file).get("id") == mine:
            found.append(f"{file.parent}: a run that was made from the same one.")
    found.append("Models that were exported or copied elsewhere, and backups: nobody here can see them.")
    return found


def ledger(run: Path) -> str:
    """Say what the ledger says. It holds no data, so it is kept."""
    mode = scenarios.load(run / "scenario.yaml").privacy.mode
    return (
        "The run was in privacy mode none: there is no ledger, and nothing bounds what contributions told "
        "of the rows."
        if mode == "none"
        else "Ledgers hold no data and stay: what was paid is not paid back."
    )


def page(told: Mapping[str, Any], folder: Path) -> str:
    """Return the page."""
    start = f"the checkpoint of round {told['from_round']}" if told["from_round"] else "the beginning"
    lines = [
        f"# Forgotten: {told['forgotten']}",
        "",
        f"Run `{told['run']}` ({told['id']}); the result is `{folder}`.",
        "",
        "## What was done",
        "",
        DONE[told["how"]].format(start=start) + f" It took {told['seconds']:.1f} s.",
        "",
        "## What still holds the contribution",
        "",
        *(f"- {line}" for line in told["still_held"]),
        "",
        "## What the ledger says",
        "",
        told["ledger"],
        "",
        "## How well it is forgotten",
        "",
    ]
    judged = told["judged"]
    if judged is None:
        return "\n".join([*lines, "Not judged; `fedkt forget … --judge` compares it with two replays.", ""])
    numbers = judged["numbers"]
    lines += [
        f"Mean over the models of client {', '.join(judged['judged'])}. Two replays with other random "
        "numbers differ "
        "as the last two columns do: that is the noise floor.",
        "",
        f"| number | {' | '.join(numbers)} | as a replay? |",
        "|---" * (len(numbers) + 2) + "|",
    ]
    for name, label in LABELS.items():
        cells = [_cell(its[name], whole=name == "relearning_steps") for its in numbers.values()]
        lines.append(f"| {label} | {' | '.join(cells)} | {_said(judged['passes'][name])} |")
    lines.append("")
    for guard, back in judged["return"].items():
        each = ", ".join(_cell(value) for value in back["accuracy"]) or "not measured: this run cannot go on"
        index = "" if back["index"] is None else f"; return index {back['index']:.2f} (1: all of it is back)"
        lines.append(f"- Accuracy on it after each of the next rounds, {guard}: {each}{index}.")
    low = judged["passes"]["return"]
    return "\n".join(
        [*lines, "", f"It does not come back as the run goes on: {_said(low)}.", f"![]({PICTURE})", ""]
    )


def draw(told: Mapping[str, Any], path: Path) -> None:
    """Draw the numbers of the versions beside each other, and what comes back."""
    judged = told["judged"]
    numbers, returns = judged["numbers"], judged["return"]
    drawn = [name for name in LABELS if any(its[name] is not None for its in numbers.values())]
    figure = blank(10, 0.62 * len(drawn) + 3)
    grid = figure.add_gridspec(len(drawn) + 1, 1, height_ratios=[1] * len(drawn) + [3])
    hues = dict(zip(numbers, ("#8a97a3", "#c2571a", "#0b6e99", "#7fb3c8"), strict=True))
    for place, name in enumerate(drawn):
        axes = figure.add_subplot(grid[place])
        for version, its in numbers.items():
            if its[name] is not None:
                axes.plot(
                    its[name], 0, "o", color=hues[version], markersize=8, label=version if not place else None
                )
        axes.set_yticks([0], [LABELS[name]])
        axes.spines[["left", "top", "right"]].set_visible(False)
        if not place:
            axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.1), frameon=False)
    axes = figure.add_subplot(grid[len(drawn)])
    for guard, back in returns.items():
        points = [numbers["after"]["forgotten"], *back["accuracy"]]
        if None not in points:
            axes.plot(range(len(points)), [100 * value for value in points], marker="o", label=guard)
    axes.set(xlabel="rounds after", ylabel="accuracy on it (%)", ylim=(-3, 103))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    write_picture(figure, path)


def _cell(value: float | None, whole: bool = False) -> str:
    return "–" if value is None else f"{value:.0f}" if whole else f"{value:.3f}"


def _said(value: bool | None) -> str:
    return "not measured" if value is None else "yes" if value else "no"


def _id(run: Path) -> str:
    return str(_read(run / "environment.json").get("run", ""))


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
