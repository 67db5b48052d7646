"""A partition and made rows, in words and as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt.data.columns.labels import listed
from fedkt.data.federation import Federation
from fedkt.data.sets.preprocess import pixels
from fedkt.drawing import blank, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#1d3b53"
_FAINT = "#e6eaee"
_MAX_DOTS = (40, 30)
"""Most clients and classes that are drawn as dots; more are drawn as a heat map."""
_MAX_NAMES = 20
"""Most classes that the table counts one by one."""

ACROSS, DOWN = 12, 5
"""Images on a sheet."""
MOST = 4
"""Rows, and the most values of each, that are told in words."""


def table(federation: Federation) -> list[dict[str, str]]:
    """Return one row per client: column headings to texts, the same headings in every row.

    Columns: client, domain (where there are any), rows, validation, own test rows (where there are any),
    number of classes held, and the rows of each class where there are at most 20.
    """
    counts = federation.counts()
    rows = []
    for shard, count in zip(federation.shards, counts, strict=True):
        row = {"client": shard.id}
        if shard.domain is not None:
            row["domain"] = shard.domain
        row["rows"] = str(len(shard.rows))
        row["validation"] = str(len(shard.validation))
        if shard.test is not None:
            row["test"] = str(len(shard.test))
        row["classes" if federation.task.exclusive else "groups"] = str(int((count > 0).sum()))
        if len(federation.groups) <= _MAX_NAMES:
            row |= dict(zip(federation.groups, (str(int(n)) for n in count), strict=True))
        rows.append(row)
    return rows


def draw(federation: Federation, path: Path) -> None:
    """Write a picture of the training rows per class and client, with each client's total above, as PNG."""
    counts = federation.counts()
    clients, classes = counts.shape
    dots = clients <= _MAX_DOTS[0] and classes <= _MAX_DOTS[1]
    width = 2.6 + float(np.clip(0.34 * clients, 2.8, 11))
    height = 1.9 + float(np.clip(0.3 * classes, 1.2, 7))
    figure = blank(width, height)
    grid = figure.add_gridspec(2, 1, height_ratios=[0.9, height - 1.6], hspace=0.02)
    below = figure.add_subplot(grid[1])
    above = figure.add_subplot(grid[0], sharex=below)
    _draw_totals(above, counts)
    if dots:
        _draw_dots(figure, below, counts)
    else:
        _draw_heat(figure, below, counts)
    below.set_xlim(-0.6, clients - 0.4)
    below.set_ylabel(federation.task.grouped, labelpad=8)
    figure.align_ylabels([above, below])
    _name_ticks(below, federation)
    write_picture(figure, path, dpi=150)


def _draw_totals(axes: Any, counts: Any) -> None:
    totals = counts.sum(axis=1)
    width = _bar_width(len(totals))
    axes.bar(np.arange(len(totals)), totals, width=width, color=_INK, linewidth=0)
    axes.set_ylabel("rows", labelpad=8)
    axes.set_yticks([0, int(totals.max())])
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def _bar_width(clients: int) -> float:
    """Return the width of a bar in a column of width 1: slim for few clients, joined for many."""
    return 0.3 if clients <= 6 else 0.6 if clients <= _MAX_DOTS[0] else 1.0


def _draw_dots(figure: "Figure", axes: Any, counts: Any) -> None:
    """Draw a dot per class and client whose area is its number of rows."""
    clients, classes = counts.shape
    axes.set_ylim(classes - 0.4, -0.6)
    axes.set_axisbelow(True)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    largest = int(counts.max())
    # Points that a cell measures: the largest dot just fills it.
    room = figure.get_size_inches() * 72
    side = min((room[0] - 150) / clients, (room[1] - 130) / classes, 26)
    area = 0.78 * side**2
    client, label = np.nonzero(counts)
    axes.scatter(client, label, s=area * counts[client, label] / largest, color=_INK, linewidth=0)
    for value in _round_steps(largest):
        axes.scatter([], [], s=area * value / largest, color=_INK, linewidth=0, label=f"{value:,}")
    axes.legend(
        title="rows",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        labelspacing=1.1,
        handletextpad=0.9,
    )


def _draw_heat(figure: "Figure", axes: Any, counts: Any) -> None:
    """Draw a field per class and client whose darkness is its number of rows."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    shades = LinearSegmentedColormap.from_list("rows", ["#ffffff", "#7fb2d1", _INK, "#0b1a26"])
    # Square roots, so that a few rows can be told from none beside a client that has thousands.
    norm = PowerNorm(0.5, vmin=0, vmax=counts.max())
    image = axes.imshow(counts.T, aspect="auto", cmap=shades, norm=norm, interpolation="nearest")
    axes.tick_params(length=0)
    axes.spines[:].set_color(_FAINT)
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label("rows of a class")


def _name_ticks(axes: Any, federation: Federation) -> None:
    """Name every client and class where there is room, else some."""
    clients, classes = len(federation.shards), len(federation.groups)
    step = 1 if clients <= _MAX_DOTS[0] else 10 ** int(np.log10(clients / 4))
    shown = np.arange(0, clients, step)
    names = [federation.shards[k].domain for k in shown]
    named = step == 1 and all(name is not None for name in names)
    texts = [str(name) if named else federation.shards[k].id for k, name in zip(shown, names, strict=True)]
    axes.set_xticks(shown, texts)
    if named and max(len(text) for text in texts) > 3:
        axes.tick_params(axis="x", rotation=40)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_xlabel("domain" if named else "client")
    axes.set_yticks(np.arange(0, classes, 1 if classes <= _MAX_DOTS[1] else 10))


def _round_steps(largest: int) -> list[int]:
    """Return up to three numbers of 1, 2, 5, 10, 20, ... : at most the largest, its half and its tenth."""
    steps = [n * 10**power for power in range(10) for n in (1, 2, 5)]
    wanted = (max(1.0, part * largest) for part in (1.0, 0.5, 0.1))
    return sorted({max(step for step in steps if step <= value) for value in wanted})


def understood(federation: Federation) -> list[dict[str, str]]:
    """Return a row per column of the source: headings to texts; none where columns have no names.

    Read from all private rows, for whoever has them: what each column is, what it holds, in how many rows it
    is blank (or holds a value without a column of its own).
    """
    pool = federation.pool
    if pool.columns is None or pool.kind != "tabular":
        return []
    rows: list[dict[str, str]] = []
    of = {f"{name}={value}": name for name, values in federation.categories.items() for value in values}
    for number, name in enumerate(pool.columns):
        values, source = pool.x[:, number], of.get(name)
        if source is None:
            there = values[~np.isnan(values)]
            span = f"{there.min():.6g} to {there.max():.6g}" if len(there) else "–"
            blank = len(values) - len(there)
        elif rows and rows[-1]["column"] == source:
            continue
        else:
            held = federation.categories[source]
            span = listed(held)
            blank = int((pool.x[:, number : number + len(held)] == 0).all(axis=1).sum())
        what = "number" if source is None else f"one of {len(federation.categories[source])}"
        rows.append(
            {"column": source or name, "is": what, "holds": span, "blank": str(blank) if blank else ""}
        )
    return rows


def made_rows(federation: Federation) -> str:
    """Return what the transfer set is made of, in one sentence; "" where it is not made."""
    stock = federation.stock
    if stock is None or federation.transfer is None:
        return ""
    names = " and ".join(recipe.name for recipe in stock.recipes)
    fresh = ", others in each round" if stock.fresh else ""
    return f"{len(federation.transfer)} rows made by {names}{fresh}, recipe {stock.recipe}"


def draw_rows(federation: Federation, path: Path) -> None:
    """Write the first transfer rows, which are images, as one PNG."""
    assert federation.transfer is not None
    images = pixels(federation.transfer.x[: ACROSS * DOWN]).numpy()
    figure = blank(0.6 * ACROSS, 0.6 * DOWN)
    axes = figure.subplots(DOWN, ACROSS, squeeze=False).ravel()
    for place, image in zip(axes, images, strict=False):
        if image.shape[0] == 1:
            place.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        else:
            place.imshow(np.moveaxis(image, 0, -1))
    for place in axes:
        place.set_axis_off()
    write_picture(figure, path, dpi=100)


def told_rows(federation: Federation) -> list[str]:
    """Return the first transfer rows in words: columns and values, words by number, token ids."""
    assert federation.transfer is not None
    rows, names = federation.transfer.x[:MOST], federation.transfer.columns
    if federation.transfer.kind == "sparse":
        return [
            ", ".join(f"word {j} x {n:g}" for j, n in zip(row.indices[:12], row.data[:12], strict=True))
            + ", ..."
            for row in rows
        ]
    if federation.transfer.kind == "tokens":
        return [" ".join(str(token) for token in row[row > 0][:20]) for row in rows]
    return [
        ", ".join(f"{name} {value:.4g}" for name, value in zip(names or range(len(row)), row, strict=True))
        for row in rows
    ]
