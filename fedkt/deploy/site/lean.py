"""Leave out what a client process for one message does not need: half of its time is imports.

Touches internals of Flower (1.41).
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def without_supernode() -> None:
    """Let Flower's client process be imported without its whole SuperNode, which is in the same package."""
    package, spec = "flwr.supernode.cli", find_spec("flwr.supernode")
    if spec is None or package in sys.modules:
        return
    bare = ModuleType(package)
    bare.__path__ = [str(Path(place) / "cli") for place in spec.submodule_search_locations or ()]
    sys.modules[package] = bare
