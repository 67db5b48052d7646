"""Names as they are, in pictures, tables and the terminal: dollars, colons, brackets and other markup."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from fedkt.comparing.watching import ComparisonProgress
from fedkt.data import build
from fedkt.data.describe import draw
from fedkt.drawing import blank, write_picture
from fedkt.results.comparison import tables
from fedkt.results.progress import Progress
from fedkt.scenario import from_dict
from fedkt.tasks import CLASSIFICATION


@pytest.mark.parametrize("name", ["a$b_{$", "US$5-US$10", "$x^2$", r"a\$b$c"])
def test_dollars_are_no_mathematics_in_a_picture(name: str, tmp_path: Path) -> None:
    """An SVG holds texts as they are where fonts are not drawn as lines."""
    import matplotlib

    figure = blank(3, 2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], label=name)
    axes.set_xticks([0, 1], [name, "c"])
    axes.set_title(name)
    axes.legend()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        write_picture(figure, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count(f">{name}</text>") == 3


def test_domains_with_dollars_are_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a$b_{$", "c"):
        np.savez(tmp_path / f"{name[0]}.npz", x_train=rng.normal(size=(20, 3)), y_train=np.arange(20) % 2)
    made: dict[str, Any] = {
        "name": "dollars",
        "data": {"dataset": {"a$b_{$": "npz:a.npz", "c": "npz:c.npz"}, "partition": {"kind": "domain"}},
        "clients": {"models": ["tabular"]},
        "strategy": {"name": "fd"},
    }
    draw(build(from_dict(made), tmp_path), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=240), out


def test_words_between_colons_are_no_pictures_in_the_terminal() -> None:
    to, out = console()
    Progress(to).noted("domain :warning: and [red]:smile:[/red]")
    assert out.getvalue() == "domain :warning: and [red]:smile:[/red]\n"
    to, out = console()
    ComparisonProgress(to)._say("run :bug: of [b]x[/b]")
    assert out.getvalue() == "run :bug: of [b]x[/b]\n"


def test_a_comparison_s_table_in_the_terminal() -> None:
    to, out = console()
    row = {"scenario": "s", "condition": "", "method": "m:bug:[red]$a$", "mean": 0.5, "low": 0.4, "high": 0.6}
    row |= {"difference": 0.0, "low_difference": 0.0, "high_difference": 0.0, "q": 0.5, "worse": 0.0}
    row |= {"worst": 0.1, "megabytes": 0.2, "rank": 1.0, "seeds": 3}

    settings = {"metric": "personal", "baseline": "lo:bug:[red]cal"}
    comparison = SimpleNamespace(
        statistics=pd.DataFrame([row]), settings=settings, metric=CLASSIFICATION.metric
    )
    tables.print_summary(comparison, Path("runs/[red]a/report.html"), to)  # type: ignore[arg-type]
    text = out.getvalue()
    assert "m:bug:[red]$a$" in text and "lo:bug:[red]cal" in text
    assert "report: runs/[red]a/report.html" in text


def test_markdown_and_latex_take_names_as_they_are() -> None:
    assert tables._markdown(["a|b", "$x$ *y* <b>", "`c`"]) == r"| a\|b | \$x\$ \*y\* \<b> | \`c\` |"
    head, row = ["method", "in %"], [r"US$5_{x} ~^\ & #", "1.0 ± 0.5"]
    made = tables._latex([head, row])
    assert r"method & in \% \\" in made
    assert (
        r"US\$5\_\{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \& \# & 1.0 $\pm$ 0.5 \\" in made
    )
