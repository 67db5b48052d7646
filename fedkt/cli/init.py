"""``fedkt init``: a first scenario for one's own data."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.cli.looking import Found

CLIENTS = 4
"""Clients where the data name no sites."""
TRANSFER = 1000


def init(
    path: Annotated[
        Path,
        typer.Argument(help="A table (.csv, .tsv, .parquet), an .npz file, or a folder.", metavar="PATH"),
    ],
    label: Annotated[str | None, typer.Option(help="The column of labels [default: guessed].")] = None,
    site: Annotated[str | None, typer.Option(help="The column of sites [default: guessed].")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the scenario.")] = Path(),
) -> None:
    """Look at data and write a first scenario for them.

    A folder holds tables, one for each site, or pictures as CLASS/FILE or SITE/CLASS/FILE. What was found is
    told, and which comparison to run; nothing is trained, and no file is overwritten.
    """
    from fedkt.cli.looking import look

    found = look(path, label, site)
    name = re.sub(r"[^a-z0-9]+", "-", path.resolve().stem.lower()).strip("-") or "mine"
    scenario = out / f"{name}.yaml"
    if scenario.exists():
        raise InputError(f"{scenario} exists already; name another folder with --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        scenario.write_text(_scenario(name, path, found), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror}); name another folder with --out."
        ) from error
    typer.echo(f"{path}: {found.what}; " + "; ".join(found.said) + ".")
    typer.echo(f"written: {scenario}")
    data = f" --data-dir {path.resolve().parent}" if found.dataset.startswith("npz:") else ""
    typer.echo(f"next:    fedkt show {scenario}{data}")
    typer.echo(
        f"         fedkt compare {scenario} --strategies dwc,fedmd:average=probabilities --seeds 0-4{data} "
        f"--out runs/{name}"
    )


def _scenario(name: str, path: Path, found: "Found") -> str:
    size = max(1, min(TRANSFER, found.rows // 5))
    deal = (
        ("{kind: domain}", "each site is a client")
        if found.sites
        else (f"{{kind: dirichlet, alpha: 0.5, clients: {CLIENTS}}}", "no sites were found: rows are dealt")
    )
    lines = [
        (f"name: {name}", ""),
        ("data:", f"{found.what} from {path}: {'; '.join(found.said)}"),
        (f"  dataset: {found.dataset}", ""),
        (f"  partition: {deal[0]}", deal[1]),
        (
            f"  transfer: {{from: train, size: {size}}}",
            "unlabelled rows that all can see; public ones are better",
        ),
        *((f"  {line}", why) for line, why in found.settings),
        ("clients:", ""),
        (f"  models: {found.models}", "everybody's; [mlp, cnn] deals several in turn"),
        ("  local: {epochs: 5, batch_size: 16, lr: 0.003}", "training on one's own rows, each round"),
        ("strategy: dwc", "'fedkt list strategies' names the others"),
        ("rounds: 10", ""),
        ("engine: {kind: inline}", "one process; ray uses every processor"),
    ]
    wide = max(len(line) for line, why in lines if why and len(line) < 60)
    return "".join(f"{line:<{wide}}  # {why}".rstrip() + "\n" if why else f"{line}\n" for line, why in lines)
