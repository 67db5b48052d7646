"""Run the example notebook of the documentation again and store what its cells give.

python -m benchmarks.notebook docs/example.ipynb
"""

import ast
import copy
import io
import json
import os
import re
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """Return a notebook."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook with the outputs of its cells, run in order in one namespace and this folder."""
    done = copy.deepcopy(notebook)
    names: dict[str, Any] = {"__name__": "notebook"}
    number = 0
    for cell in done["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = _run("".join(cell["source"]), names, number)
    return done


def accuracies(notebook: dict[str, Any]) -> list[str]:
    """Return every number with one decimal in the outputs: what a second run must give again."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    texts = ["".join(output.get("data", {}).get("text/html", output.get("text", ""))) for output in outputs]
    return re.findall(r"\d+\.\d(?!\d)", " ".join(texts))


def _run(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)}
        )
    if value is not None:
        data = {"text/plain": repr(value).splitlines(True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(True)
        outputs.append(
            {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
        )
    return outputs


def main(path: Path) -> None:
    """Execute a notebook in an empty folder and store it."""
    before, notebook = os.getcwd(), read(path)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            done = executed(notebook)
        finally:
            os.chdir(before)
    path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
