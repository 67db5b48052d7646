"""What mkdocs.yml cannot say: pages that its nav does not list get a place of their own in it."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Append every page that is not in the nav, under "More"."""
    listed = repr(config["nav"])
    more = sorted(page.name for page in Path(config["docs_dir"]).glob("*.md") if page.name not in listed)
    if more:
        config["nav"].append({"More": more})
    return config
