"""The command line of the deployment: ``fedkt site …`` and ``fedkt submit``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.plain import Command, Group
from fedkt.errors import InputError

site = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Take part at a real site: init, check, run, visit.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SiteArg = Annotated[Path, typer.Argument(help="The site's folder or its site.yaml.", metavar="SITE")]
Address = Annotated[
    str, typer.Option("--superlink", help="HOST:PORT of the coordinator.", metavar="HOST:PORT")
]
Ca = Annotated[
    Path | None,
    typer.Option("--root-certificates", help="The coordinator's CA [default: those the system trusts]."),
]


@site.command(cls=Command)
def init(
    address: Address,
    name: Annotated[str | None, typer.Option(help="The site's name in every run.")] = None,
    out: Annotated[Path, typer.Option(help="The site's folder.")] = Path("site"),
    root_certificates: Ca = None,
    from_scenario: Annotated[
        str | None,
        typer.Option(
            "--from-scenario",
            metavar="SCENARIO",
            help="Write one site per client of a simulation, with its rows, below --out.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=v", help="With --from-scenario: change a setting."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="With --from-scenario: where data files lie.")
    ] = None,
) -> None:
    """Write a site's key and file, and say which commands follow from them."""
    from fedkt.deploy.site.setup import init_from_scenario, init_site, register_command, supernode_command

    if (name is None) == (from_scenario is None):
        raise InputError("give either --name, for one site, or --from-scenario, for those of a simulation.")
    if from_scenario is not None:
        from fedkt import scenario as scenarios

        resolved = scenarios.load(from_scenario, list(set_ or ()))
        made = init_from_scenario(resolved, out, data_dir, address, root_certificates)
    else:
        made = [init_site(out, str(name), address, root_certificates, {})]
    for one in made:
        typer.echo(f"site '{one.file.name}' in {one.folder}")
        typer.echo(f"  at the coordinator, once: {register_command(one)}")
        typer.echo(f"  here: fedkt site check {shlex.quote(str(one.folder))}")
        typer.echo(f"  here: fedkt site run {shlex.quote(str(one.folder))}")
        typer.echo(f"  or, without the guard: {shlex.join(supernode_command(one))}")


@site.command(cls=Command)
def check(
    folder: SiteArg = Path("site"),
    scenario: Annotated[
        str | None, typer.Option(help="What the site is to take part in: checks policy, data and model.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try the connection.")] = False,
) -> None:
    """Say what is in order at a site, or everything that is not."""
    from fedkt import scenario as scenarios
    from fedkt.deploy.site.inspection import check_site
    from fedkt.deploy.site.site_file import Site

    resolved = None if scenario is None else scenarios.load(scenario)
    for line in check_site(Site.load(folder), resolved, connect=not offline):
        typer.echo(f"ok: {line}")


@site.command(cls=Command)
def visit(
    folder: SiteArg = Path("site"),
    times: Annotated[
        int | None, typer.Option(min=1, help="Visits [default: until the board is over].")
    ] = None,
    pause: Annotated[float, typer.Option(min=0, help="Seconds from one visit to the next.")] = 0.0,
) -> None:
    """Visit a board (fedkt board) whenever the site can: train, deposit, collect, digest."""
    from fedkt.deploy.site.site_file import Site
    from fedkt.deploy.site.visiting import visit_board

    visit_board(Site.load(folder), times=times, pause_s=pause, say=typer.echo)


@site.command(cls=Command)
def run(
    folder: SiteArg = Path("site"),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of Flower's own API on 127.0.0.1 [default: 9094].")
    ] = None,
) -> None:
    """Take part until stopped: run the site's SuperNode, guarded, with a health page."""
    from fedkt.deploy.site.node import run_site
    from fedkt.deploy.site.site_file import Site

    run_site(Site.load(folder), port)
