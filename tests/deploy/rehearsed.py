"""What the tests over real processes have in common."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedkt.deploy.rehearsal import LINK, Rehearsal

SCENARIO = Path(__file__).with_name("deploy.yaml")
SAME = ("accuracy", "bytes", "replies", "rounds", "clients")


def submitted(it: Rehearsal, out: str, *more: str, sites: int = 3, wait: int = 200) -> dict[str, Any]:
    """Run the scenario at so many sites; return its summary and, as \"told\", what was printed."""
    done = it.submit(SCENARIO, "--sites", str(sites), "--wait", str(wait), "--out", out, *more)
    assert done.returncode == 0, done.stdout + done.stderr + it.log(LINK)[-2000:]
    found: dict[str, Any] = json.loads((it.folder / out / "summary.json").read_text())
    return found | {"told": done.stdout}


def wait_for(what: Callable[[], Any], seconds: float = 240) -> None:
    """Wait until it is so; fail where it takes too long."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)
