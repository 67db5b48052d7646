"""Figures without a screen, for all pictures."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fedkt.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


HUES = {
    "light": ("#0060e4", "#973300", "#2691b3", "#eb676f", "#e07400", "#570e7d", "#63201e", "#612a52"),
    "dark": ("#69a8fb", "#da6e00", "#4bffc2", "#c35c90", "#fae606", "#854cff", "#c36354", "#93e7ff"),
}
"""The hues of strategies, by theme. Found by search: any two are at least 30 apart in CIELAB, also as people
see them who lack the cones for red or green (Machado, Oliveira, Fernandes 2009)."""
DASHES = ((), (7, 3), (2, 3), (10, 3, 2, 3), (5, 2, 1, 2, 1, 2), (14, 4), (1, 4), (8, 2, 2, 2, 2, 2))
"""Strokes and gaps of the lines of strategies, in widths of a thin line: each hue has its own."""
BOUNDS = {"local": (1, 3), "central": (9, 5)}
"""Those of the bounds, which are grey."""


def look(place: int) -> tuple[int, tuple[int, ...]]:
    """Return the number of the hue and the dash of the strategy in this place; of 64 no two look alike."""
    return place % len(HUES["light"]), DASHES[(place + place // len(HUES["light"])) % len(DASHES)]


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
