"""Figures without a screen, for all pictures."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fedkt.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches, whose parts make room for each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_picture(figure: "Figure", path: Path, *, dpi: int = 144) -> None:
    """Write a figure atomically, in the form that the file's ending names and with no date in it.

    Texts are drawn as they are: a name with two dollar signs is no mathematics.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    image, form = BytesIO(), path.suffix.removeprefix(".") or "png"
    with rc_context({"text.parse_math": False}):  # for ticks, of which some are made only now
        figure.savefig(image, format=form, dpi=dpi, metadata={"Date": None} if form == "svg" else None)
    write_atomic(path, image.getvalue())
