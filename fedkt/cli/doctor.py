"""``fedkt doctor``: what will work on this machine."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from fedkt.errors import InputError, RunError
from fedkt.files import check_platform

GIB = 2**30


def examine() -> bool:
    """Print one line per check; return whether everything essential works."""
    from rich.console import Console
    from rich.markup import escape

    console, sound = Console(), True
    for name, check, essential in CHECKS:
        try:
            good, found = check()
        except Exception as error:
            good, found = False, f"{type(error).__name__}: {error}"
        word = "ok" if good else "broken" if essential else "note"
        style = {"ok": "green", "note": "yellow", "broken": "red"}[word]
        line = f"[{style}]{word:7}[/{style}] {name}: {escape(found)}"
        console.print(line, emoji=False, highlight=False, soft_wrap=True)
        sound = sound and (good or not essential)
    return sound


def _python() -> tuple[bool, str]:
    good = sys.version_info >= (3, 11)
    return good, sys.version.split()[0] + ("" if good else "; 3.11 or newer is needed")


def _system() -> tuple[bool, str]:
    try:
        check_platform()
    except InputError as error:
        return False, str(error)
    return True, f"{platform.system()} {platform.release()}, locks files as runs need it"


def _torch() -> tuple[bool, str]:
    import torch

    return True, f"{torch.__version__}, {torch.get_num_threads()} threads"


def _accelerator() -> tuple[bool, str]:
    """Whatever PyTorch can use, by its own list: ``engine.device`` takes the same."""
    import torch

    if not torch.accelerator.is_available():
        return False, "none; everything runs on the CPU"
    found = torch.accelerator.current_accelerator()
    kind = "" if found is None else found.type
    count = torch.accelerator.device_count()
    # Not every kind of device has names, such as Apple's.
    name_of = getattr(getattr(torch, kind, None), "get_device_name", None)
    names = f": {', '.join(str(name_of(i)) for i in range(count))}" if name_of is not None else ""
    return True, f"{count} of kind {kind}{names}"


def _flower() -> tuple[bool, str]:
    from fedkt.engine.runtimes import flwr_internals as flwr_runtime

    flwr_runtime.become_server()
    return True, version("flwr")


def _ray() -> tuple[bool, str]:
    import logging

    import ray

    if ray.is_initialized():
        return True, f"{version('ray')}, running already"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a change of its own
    # Not a cluster that may be running: whether Ray starts here is the question.
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        answer: int = ray.get(ray.remote(_worker).remote(), timeout=60)
        return answer != os.getpid(), f"{version('ray')}, starts and answers"
    finally:
        ray.shutdown()


def _worker() -> int:
    return os.getpid()


def _memory() -> tuple[bool, str]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    good = total >= 4
    return good, f"{total:.1f} GiB, {os.cpu_count()} processors" + ("" if good else "; 4 GiB are advised")


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return free >= 1, f"{free:.1f} GiB free here" + ("" if free >= 1 else "; runs may not fit")


def _data() -> tuple[bool, str]:
    folder = Path(os.environ.get("FEDKT_DATA", "data"))
    if not folder.is_dir():
        return (
            False,
            f"{folder} is no folder; set FEDKT_DATA for scenarios with npz files (digits needs none)",
        )
    return True, f"{folder} with {len(list(folder.glob('*.npz')))} npz files"


CHECKS: tuple[tuple[str, Callable[[], tuple[bool, str]], bool], ...] = (
    ("python", _python, True),
    ("system", _system, True),
    ("torch", _torch, True),
    ("flower", _flower, True),
    ("ray", _ray, True),
    ("accelerator", _accelerator, False),
    ("memory", _memory, False),
    ("disk", _disk, False),
    ("data", _data, False),
)


def doctor() -> None:
    """Say what will work on this machine."""
    if not examine():
        raise RunError("something essential is missing; see the lines marked 'broken'.")
