"""What mkdocs.yml cannot say: pages that its nav does not list get a place of their own in it, and what
docstrings have for ``help()`` becomes Markdown."""

import re
from pathlib import Path
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|data|func|meth|mod):`~?([^`]+)`")
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Append every page that is not in the nav, under "More"."""
    listed = repr(config["nav"])
    more = sorted(page.name for page in Path(config["docs_dir"]).glob("*.md") if page.name not in listed)
    if more:
        config["nav"].append({"More": more})
    return config


class Docstrings(griffe.Extension):
    """Names stand for themselves, and examples are blocks of code."""

    def on_instance(self, *, obj: Any, **kwargs: Any) -> None:
        """Rewrite one object's docstring as it is found."""
        if obj.docstring is not None:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```", text)
