"""Pictures about privacy: where a budget went, and what an inversion attack reconstructed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkt.drawing import blank, write_picture
from fedkt.privacy.accounting import Event, spent
from fedkt.privacy.ledger import FILE, Ledger

if TYPE_CHECKING:
    from torch import Tensor

BUDGET = "budget.png"
MOST_BARS = 30
"""Ledger entries that are drawn one by one; of more, several share a bar."""
PURPOSES = {"training": "#0b6ea8", "digestion of a teacher": "#a54383", "release": "#c8550b"}
_FAINT, _GREY = "#e4e6e4", "#767f86"


# Where the budget went ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Payment:
    """What some entries of a ledger in a row added to epsilon, by purpose; ``total``: epsilon after them."""

    label: str
    added: dict[str, float]
    total: float


def payments(entries: Sequence[dict[str, Any]]) -> list[Payment]:
    """Return what the reserved entries of one ledger added to epsilon, in the order in which they were paid.

    Epsilons do not add up, so what an entry added depends on what was paid before it.
    """
    size = -(-len(entries) // MOST_BARS)
    found: list[Payment] = []
    paid: list[Event] = []
    before = 0.0
    for first in range(0, len(entries), size or 1):
        added: dict[str, float] = {}
        part = entries[first : first + size]
        for purpose in PURPOSES:
            bought = [Event(**e) for entry in part for e in entry["events"] if _purpose(entry, e) == purpose]
            if bought:
                paid += bought
                total = spent(paid, part[0]["delta"], part[0]["unit"]).epsilon
                added[purpose], before = total - before, total
        rounds = sorted({entry["round"] for entry in part})
        label = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        found.append(Payment(label, added, before))
    return found


def _purpose(entry: dict[str, Any], event: dict[str, Any]) -> str:
    if event["kind"] == "rr" or event["discrete"]:
        return "release"
    return "digestion of a teacher" if entry["stage"] == "digest" else "training"


def draw_budget(folder: Path) -> Path | None:
    """Draw where the budgets of all ledgers below a folder went, as ``budget.png`` in it; None without any.

    One panel: epsilon after each entry of the ledger that paid most, by purpose, against its budget. Another,
    where there are several ledgers: what each party has paid in all. Raises
    :class:`~fedkt.privacy.ledger.Declined` where a ledger cannot be trusted.
    """
    ledgers = {_party(path, folder): Ledger(path.parent).entries() for path in sorted(folder.rglob(FILE))}
    ledgers = {party: [e for e in entries if e["state"] == "reserved"] for party, entries in ledgers.items()}
    ledgers = {party: entries for party, entries in ledgers.items() if entries}
    if not ledgers:
        return None
    totals = {party: _total(entries) for party, entries in ledgers.items()}
    worst = max(totals, key=lambda party: totals[party])
    newest = ledgers[worst][-1]
    several = len(totals) > 1
    figure = blank(10 if several else 6.4, 3.8)
    panels = figure.subplots(1, 2, width_ratios=(3, 2)) if several else [figure.subplots()]
    _draw_payments(panels[0], payments(ledgers[worst]))
    panels[0].set_title(f"{worst}, which paid most: ε after each round", loc="left", fontsize=10)
    panels[0].set_xlabel("round", fontsize=9)
    if newest["most"] is not None:
        panels[0].axhline(newest["most"], color=_GREY, linestyle="dashed", linewidth=1)
        panels[0].annotate(
            "budget",
            (1, newest["most"]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=9,
        )
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False, fontsize=9
    )
    if several:
        shown = sorted(totals, key=lambda party: -totals[party])[:MOST_BARS][::-1]
        panels[1].barh(shown, [totals[party] for party in shown], color=_GREY, height=0.7)
        title = (
            "paid in all"
            if len(shown) == len(totals)
            else f"the {len(shown)} of {len(totals)} that paid most"
        )
        panels[1].set_title(title, loc="left", fontsize=10)
        panels[1].set_xlabel("ε", fontsize=9)
    for axes in panels:
        axes.tick_params(length=0, labelsize=8)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    figure.suptitle(
        f"where the budget went: ε at δ = {newest['delta']:g} per {newest['unit']}",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    write_picture(figure, folder / BUDGET)
    return folder / BUDGET


def _draw_payments(axes: Any, paid: Sequence[Payment]) -> None:
    """Draw a bar per payment: on what was paid before (faint), what each purpose added."""
    places = range(len(paid))
    before = [0.0, *(payment.total for payment in paid[:-1])]
    axes.bar(places, before, color=_FAINT, width=0.8, label="paid before" if len(paid) > 1 else None)
    for purpose, colour in PURPOSES.items():
        heights = [payment.added.get(purpose, 0.0) for payment in paid]
        if any(heights):
            axes.bar(places, heights, bottom=before, color=colour, width=0.8, label=purpose)
        before = [low + height for low, height in zip(before, heights, strict=True)]
    axes.set_xticks(places, [payment.label for payment in paid], rotation=60 if len(paid) > 12 else 0)
    axes.set_ylabel("ε", fontsize=9)


def _total(entries: Sequence[dict[str, Any]]) -> float:
    events = [Event(**event) for entry in entries for event in entry["events"]]
    return spent(events, entries[-1]["delta"], entries[-1]["unit"]).epsilon


def _party(path: Path, folder: Path) -> str:
    """Return whose ledger a file is: the folder above ``ledger/``, or its own."""
    holder = path.parent.parent if path.parent.name == "ledger" else path.parent
    if holder == folder or folder not in holder.parents:
        return "the ledger"
    return holder.name if holder.name == "server" else f"client {holder.name}"


# What was reconstructed -----------------------------------------------------------------------------------


def draw_inversion(means: Sequence["Tensor"], images: "Tensor", path: Path, told: str) -> None:
    """Draw, per class, the mean of the client's rows and below it what was reconstructed from labels.

    ``means``: [channels, height, width] each, NaN where the client has no row of the class; ``images``:
    [classes, n, channels, height, width].
    """
    classes, rows = len(images), images.shape[1] + 1
    low, high = float(images.min()), float(images.max())
    figure = blank(max(6.0, 0.8 * classes), 0.8 * rows + 0.7)
    for label, column in enumerate(figure.subplots(rows, classes, squeeze=False).T):
        column[0].set_title(f"{label}", fontsize=9)
        for place, (axes, image) in enumerate(zip(column, [means[label], *images[label]], strict=True)):
            shown = (image - low) / ((high - low) or 1.0)
            if image.isfinite().all():
                axes.imshow(
                    shown.clamp(0, 1).permute(1, 2, 0)[..., : 3 if len(image) >= 3 else 1].numpy(),
                    cmap="gray",
                    vmin=0,
                    vmax=1,
                )
            axes.set_xticks([])
            axes.set_yticks([])
            if not label and place < 2:
                axes.set_ylabel("true mean" if not place else "attack", fontsize=8)
            for spine in axes.spines.values():
                spine.set_visible(False)
    figure.suptitle(f"label-only inversion (LOKT): {told}", x=0.01, ha="left", fontsize=10)
    write_picture(figure, path)
