"""The documentation: its snippets are run as they stand, page by page, and the site is built strictly."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fedkt
from tests.project.snippets import in_this_process, run_snippets

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("tutorial.md",)] + sorted((ROOT / "docs" / "howto").glob("*.md"))
pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").exists(), reason="docs/ is not beside the tests")

LONG = ("tutorial", "compare", "forget", "language-models")


@pytest.mark.parametrize(
    "page",
    [
        # Two compare, a dozen runs each; one replays a run twice, and goes on from it; one trains language
        # models.
        pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in LONG else [])
        for page in PAGES
    ],
)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_snippets(page, tmp_path, monkeypatch, ("python", "console", "yaml"))
    if page.stem == "tutorial":
        # What the page says of it: the default is better than training alone, by more than chance.
        which = fedkt.Comparison.read(tmp_path / "runs" / "which").statistics.set_index("method")
        assert which.loc["dwc", "q"] < 0.05 and which.loc["dwc", "difference"] > 0


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
