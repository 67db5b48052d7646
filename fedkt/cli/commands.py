"""The command line. Heavy packages are imported inside the commands, so that help is immediate."""

import errno
import logging
import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated, Any

import typer

from fedkt.cli.doctor import doctor
from fedkt.cli.generate import generate
from fedkt.cli.init import init
from fedkt.cli.listing import list_
from fedkt.cli.plain import Command, Group
from fedkt.cli.privacy import app as privacy
from fedkt.cli.runs import completion
from fedkt.cli.runs.audit import audit
from fedkt.cli.runs.clean import clean
from fedkt.cli.runs.compare import compare
from fedkt.cli.runs.demo import demo
from fedkt.cli.runs.export import export
from fedkt.cli.runs.forecast import forecast
from fedkt.cli.runs.forget import forget
from fedkt.cli.runs.report import report
from fedkt.cli.runs.simulate import simulate
from fedkt.cli.show import show
from fedkt.cli.site import site
from fedkt.cli.sites.board import board
from fedkt.cli.sites.models import models
from fedkt.cli.sites.submit import submit
from fedkt.errors import InputError, RunError, hinted
from fedkt.files import check_platform

INPUT_WRONG, RUN_FAILED, INTERRUPTED = 2, 3, 130
PROCESS = object()
"""What a command finds in its context where the process is its own, and ends with it."""


class Commands(Group):
    """Turns every way to end into an exit status: the one place where that is decided."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 2 for wrong input, 3 for a failed run, 130 when interrupted."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            _end(INPUT_WRONG, *error.problems)
        except RunError as error:
            if os.environ.get("FEDKT_DEBUG") == "1":
                traceback.print_exc()
            _end(RUN_FAILED, str(error))
        except KeyboardInterrupt as error:
            # Here and not around the whole: typer would turn it into a status without a word.
            _end(INTERRUPTED, str(error) or "interrupted.")
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if hasattr(error, "exit_code"):
                raise  # wrong usage, which typer explains itself
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader has left, as `head` does
            if (said := hinted(error)) is not None and os.environ.get("FEDKT_DEBUG") != "1":
                _end(INPUT_WRONG if isinstance(said, InputError) else RUN_FAILED, str(said))
            # A mistake in fedkt or in a plug-in: what matters is where.
            traceback.print_exc()
            _end(RUN_FAILED, f"{type(error).__name__}: {error}")


def _end(status: int, *lines: str) -> None:
    for line in lines:
        typer.echo(f"fedkt: {line}", err=True)
    raise typer.Exit(status)


app = typer.Typer(
    name="fedkt",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"fedkt {version('fedkt')}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Federated knowledge fusion: parties fuse what their models know, and share neither data nor weights."""
    if ctx.invoked_subcommand not in ("doctor", "list"):
        check_platform()


def main() -> None:
    """Run the command line and exit with its status: at once, without taking the interpreter down in order.

    That takes a second where torch is loaded, and Ray would wait for its processes, which end with this one.
    """
    completion.answer(app)
    try:
        app(obj=PROCESS)
    except SystemExit as end:
        if not isinstance(end.code, int | None) or "torch" not in sys.modules:
            raise
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a reader that has left, as `head` does
                stream.flush()
        os._exit(end.code or 0)


for command in (
    demo,
    init,
    simulate,
    compare,
    report,
    show,
    export,
    generate,
    submit,
    board,
    forget,
    audit,
    forecast,
    models,
    clean,
    doctor,
    completion.completion,
):
    app.command(cls=Command)(command)
app.command(name="list", cls=Command)(list_)
app.add_typer(site, name="site")
app.add_typer(privacy, name="privacy")
