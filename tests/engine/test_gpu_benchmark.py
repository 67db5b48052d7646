"""The benchmark on an accelerator, from its first line to its last, on one that is pretended."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world import device as devices
from fedkt.engine.world import world
from tests.engine.pretended import DEVICE, NAME, Accelerator

gpu: Any = pytest.importorskip("benchmarks.gpu", reason="benchmarks are in the checkout only")
programs: Any = pytest.importorskip("benchmarks.engine.programs")


@pytest.mark.slow
def test_all_programs_run_on_the_device_and_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(job: tuple[str, dict[str, Any]], seconds: float) -> Sequence[float] | None:
        name, settings = job
        assert seconds > 0
        if name == "flower":  # whose actors are other processes, which do not pretend
            settings = {**settings, "run": lambda app, main, nodes, *_: main(InlineGrid(app, nodes))}
        if name == "fedkt_training":
            settings = {**settings, "engine": {"kind": "inline"}}
        before = opened.counts["kernels"]
        taken: Sequence[float] = getattr(programs, name)(**settings)
        assert opened.counts["kernels"] > before
        return None if settings.get("strategy") == "fedavg" else taken

    monkeypatch.setattr(programs.work, "ROWS", 20)
    monkeypatch.setattr(programs.work, "CLIENTS", 4)
    monkeypatch.setattr(world, "device_of", lambda engine: DEVICE)
    monkeypatch.setattr(devices, "device_of", lambda engine: DEVICE)
    programs.work.shards.cache_clear()
    programs.work.net.cache_clear()
    try:
        with Accelerator() as opened:
            gpu.compare(["mlp"], NAME, here, a_round=2, rounds=1)
    finally:
        programs.work.shards.cache_clear()
        programs.work.net.cache_clear()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| plain loop",
        "| Flower's runtime, 16 actors",
        "| fedkt, fedavg",
        "| fedkt, fd",
    ]
    assert "| 1.00 |" in lines[2] and re.search(r"over \d+ s", lines[4])
    assert re.search(r"\| \d+\.\d \| \d+\.\d\d \|", lines[5])


def test_without_an_accelerator_nothing_is_measured() -> None:
    command = [sys.executable, "-c", "from benchmarks.gpu import main; main()"]
    none = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=none)
    assert done.returncode == 2 and done.stderr == (
        "this machine has no accelerator that PyTorch can use; nothing was measured.\n"
    )
