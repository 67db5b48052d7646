"""What ``fedkt show`` prints of a scenario: the resolved file, who holds what, what will be sent."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from fedkt import scenario
from fedkt.data import describe
from fedkt.engine.world.private import epsilons, planned_text, privacy_notes
from fedkt.engine.world.traffic import bytes_per_round
from fedkt.engine.world.unused import settings_notes
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.results.result import size_text

MOST_CLIENTS = 20
MOST_LABELS = 40
WIDE = 200
"""Columns of what does not go to a terminal."""


def show_scenario(world: World, out: Path | None) -> None:
    """Print the resolved file, the partition, models, bytes per round; draw the partition below ``out``."""
    console = _console()
    text = scenario.dump(world.scenario)
    # Elsewhere than in a terminal the file as it is, so that it can be run.
    console.print(
        Syntax(text, "yaml", background_color="default", word_wrap=True) if console.is_terminal else text
    )
    names = world.federation.label_names
    if names is not None:
        console.print(
            "labels: " + ", ".join(f"{number} {name}" for number, name in enumerate(names[:MOST_LABELS]))
        )
    columns = describe.understood(world.federation)
    if columns:
        read = Table(title="columns as they are read", title_justify="left", box=None, pad_edge=False)
        for heading in columns[0]:
            read.add_column(heading, justify="right" if heading == "blank" else "left", overflow="fold")
        for column in columns[:MOST_LABELS]:
            read.add_row(*map(Text, column.values()))
        console.print(read)
        if len(columns) > MOST_LABELS:
            console.print(f"... and {len(columns) - MOST_LABELS} more columns")
    rows = describe.table(world.federation)
    task = world.federation.task
    console.print(f"task: {task.name}, {task.about(world.federation.classes)}")
    title = f"partition: training rows of each {task.grouped} (0, 1, …)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in rows[0]:
        left = heading in ("client", "domain")
        table.add_column(
            _short(heading),
            justify="left" if left else "right",
            no_wrap=True,
        )
    table.add_column("model", no_wrap=True)
    for row in rows[:MOST_CLIENTS]:
        table.add_row(*map(Text, row.values()), Text(_model(*world.models[row["client"]])))
    console.print(table)
    if len(rows) > MOST_CLIENTS:
        console.print(f"... and {len(rows) - MOST_CLIENTS} more clients")
    dealt = Counter(_model(name, settings) for name, settings in world.models.values())
    console.print("models: " + ", ".join(f"{count} x {name}" for name, count in dealt.items()))
    if world.federation.transfer is not None:
        about = describe.made_rows(world.federation) or f"{len(world.federation.transfer)} rows"
        console.print(f"transfer set: {about}, SHA-256 {world.transfer_hash}")
        if world.federation.stock is not None and world.federation.transfer.kind != "image":
            for told in describe.told_rows(world.federation):
                console.print(f"  {told}")
    planned = bytes_per_round(world)
    console.print(f"per client and round: up {size_text(planned['up'])}, down {size_text(planned['down'])}")
    console.print(planned_text(world.scenario.privacy, epsilons(world)))
    for note in (*world.federation.notes, *privacy_notes(world), *settings_notes(world)):
        console.print(f"note: {note}")
    if out is not None:
        pictures = {"partition.png": describe.draw}
        if world.federation.stock is not None and world.federation.pool.kind == "image":
            pictures["transfer.png"] = describe.draw_rows
        for name, draw in pictures.items():
            picture = out / name
            try:
                out.mkdir(parents=True, exist_ok=True)
                draw(world.federation, picture)
            except OSError as error:
                problem = f"{picture} cannot be written ({error.strerror}); name another folder with --out."
                raise InputError(problem) from error
            console.print(f"drawn: {picture}")


def _short(heading: str) -> str:
    """Return a group's number alone."""
    word, _, number = heading.partition(" ")
    return number if word in ("class", "label", "fifth") and number else heading


def _model(name: str, settings: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in settings.items())})" if settings else name


def _console() -> Console:
    """Return a console that takes names with brackets or colons as they are and cuts no line short."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
