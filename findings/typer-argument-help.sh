#!/usr/bin/env bash
# One would expect `typer.Argument(help="Whose name.")` to show its help, as typer's own tutorial does.
# Under click 8.5 typer 0.20.1 loses it: click's Argument has had an attribute `help` of its own since then, and its
# constructor, which typer calls after it has set `help`, sets it to None. Nothing warns; the argument is listed without a
# word. Beside that, with rich installed but rich_markup_mode=None, "[required]" and "[default: …]" come with a backslash
# that is meant for rich's markup. Options keep their help.
# Versions: typer 0.20.1 (the newest that flwr 1.41 allows), click 8.5.1, rich 14.3.4; Python 3.11.
# Why it matters here: fedkt/cli/plain.py gives the arguments their help back and takes the backslashes out.
set -euo pipefail
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check typer==0.20.1 click==8.5.1 rich==14.3.4
cat >"$folder/hello.py" <<'PY'
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def hello(
    name: Annotated[str, typer.Argument(help="Whose name.")],
    greeting: Annotated[str, typer.Option(help="Which greeting.")] = "hello",
) -> None:
    """Greet somebody."""


app()
PY
"$folder/venv/bin/python" "$folder/hello.py" --help | tee "$folder/help"
grep -q "Which greeting" "$folder/help"
! grep -q "Whose name" "$folder/help"
grep -q 'NAME  \\\[required\]' "$folder/help"
echo "the option's help is there, the argument's is not, and [required] has a backslash"
