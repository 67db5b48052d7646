"""The documentation: its snippets are run as they stand, page by page, and the site is built strictly."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("tutorial.md",)] + sorted((ROOT / "docs" / "howto").glob("*.md"))
pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").exists(), reason="docs/ is not beside the tests")
BLOCK = re.compile(r"^```(python|console|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [
        # These two compare: a dozen runs each.
        pytest.param(
            page, id=page.stem, marks=pytest.mark.slow if page.stem in ("tutorial", "compare") else []
        )
        for page in PAGES
    ],
)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and ``fedkt`` commands, in order and in one folder; blocks named ``# file:`` are files in it."""
    from fedkt.cli.commands import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    for language, block in BLOCK.findall(page.read_text()):
        named = re.match(r"# file: (\S+)\n", block)
        if named:
            (tmp_path / named[1]).write_text(block)
        elif language == "python":
            exec(compile(block, str(page), "exec"), {"__name__": "snippet"})
        elif language == "console":
            for line in block.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "fedkt", line
                if arguments[0] == "compare":
                    # A worker takes seconds to import what is imported here already.
                    monkeypatch.setattr("fedkt.comparing.campaign.run_here", in_this_process)
                ended = CliRunner().invoke(app, arguments)
                assert ended.exit_code == 0, f"{line}\n{ended.output}"
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def in_this_process(jobs: list[Any], workers: int, gpus: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    from fedkt.comparing.worker import run_job

    for number, job in enumerate(jobs):
        yield number, {"event": "started"}
        events: list[dict[str, Any]] = []
        run_job(job, events.append)
        yield from ((number, event) for event in events)


def test_the_notebook_holds_what_its_cells_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it again: no cell fails, and the accuracies in the stored outputs are the same."""
    notebook = pytest.importorskip("benchmarks.notebook", reason="benchmarks/ is not beside the tests")
    monkeypatch.setattr("fedkt.comparing.campaign.run_here", in_this_process)
    monkeypatch.chdir(tmp_path)
    stored = notebook.read(ROOT / "docs" / "example.ipynb")
    again = notebook.executed(stored)
    assert notebook.accuracies(again) == notebook.accuracies(stored) != []


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the extra docs is not installed")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'id="fedkt.compare"' in (tmp_path / "site/reference/index.html").read_text()
    # Nothing is fetched from elsewhere when a page is read.
    page = (tmp_path / "site/index.html").read_text()
    assert not re.search(
        r"<(?:script|link)[^>]+(?:src|href)=\"https?://(?!github)", page.replace("canonical", "")
    )
