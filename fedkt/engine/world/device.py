"""On which device clients are trained: what ``engine.device`` asks for, by ``torch.accelerator``."""

import os
import shutil

import torch

from fedkt.scenario import Engine, Scenario


def device_of(engine: Engine) -> torch.device:
    """Return an engine's device; ``auto``: the accelerator where ``gpus`` asks for one, else the CPU."""
    if engine.device == "auto":
        return there() if engine.gpus > 0 else torch.device("cpu")
    return torch.device(engine.device)


def there() -> torch.device:
    """Return this machine's accelerator; CUDA's name where there is none, for other machines of a cluster."""
    if torch.accelerator.is_available():
        found = torch.accelerator.current_accelerator()
        if found is not None:
            return found
    return torch.device("cuda")


def device_problems(engine: Engine, workers: int) -> list[str]:
    """Return what is wrong with the device that an engine of so many workers asks for, in sentences."""
    if engine.kind == "processes" and (engine.address or engine.gpus or engine.device not in ("auto", "cpu")):
        return [
            "engine.kind is processes, which have this machine's processors alone, but engine.address, gpus "
            "or device asks for more; write ray."
        ]
    here = there() if torch.accelerator.is_available() else None
    name = None if here is None else here.type
    if engine.address is not None:
        return []  # the cluster's machines have what they have
    if engine.device not in ("auto", "cpu", name):
        said = f"it has {name}" if name else "it has none that PyTorch can use"
        return [f"engine.device is {engine.device}, but this machine lacks it ({said}); write auto or cpu."]
    if engine.device == "cpu" and engine.gpus > 0:
        return ["engine.gpus asks for accelerators, but engine.device is cpu; leave one of them out."]
    if engine.device == "cuda" and engine.gpus == 0 and engine.kind != "inline":
        return [
            f"engine.device is cuda, but engine.gpus is 0, so no worker of engine '{engine.kind}' sees one; "
            "say which share of one each takes, such as 0.25."
        ]
    count = 0 if here is None else torch.accelerator.device_count()
    if engine.gpus * workers > count:
        return [
            f"engine asks for {engine.gpus * workers:g} GPUs, but this machine has {count}; "
            "lower engine.gpus or engine.workers."
        ]
    return []


def compile_problems(scenario: Scenario) -> list[str]:
    """Return why the steps of cohorts cannot be carried out as ``engine.compile`` asks for, in sentences."""
    engine, said = scenario.engine, f"engine.compile is {scenario.engine.compile}"
    if engine.compile == "off":
        return []
    if engine.kind == "flower" or engine.cohort == "off":
        why = "engine 'flower' has none" if engine.kind == "flower" else "engine.cohort is off"
        return [f"{said}, which is about the steps of cohorts, but {why}; leave it out."]
    if scenario.privacy.mode == "dpsgd":
        return [f"{said}, but privacy.mode dpsgd takes gradients row by row as written; leave it out."]
    device = device_of(engine).type
    if engine.compile == "graphs" and device != "cuda":
        return [
            f"{said}, but CUDA graphs need a GPU of CUDA and clients train on {device}; write off or auto."
        ]
    if engine.compile == "torch" and device == "cpu" and not has_compiler():
        return [
            f"{said}, which needs a compiler of C++ on a CPU; install g++, name one in CXX, or write off."
        ]
    return []


def has_compiler() -> bool:
    """Say whether PyTorch finds a compiler of C++ on this machine."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def model_problem(module: torch.nn.Module, device: torch.device) -> str | None:
    """Return why a model cannot be trained on a device, as a clause (None: it can)."""
    if device.type == "mps" and any(p.dtype == torch.float64 for p in module.parameters()):
        return (
            "engine.device is mps and its parameters are float64, which Apple's GPUs do not have; make them "
            "float32"
        )
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Embedding | torch.nn.EmbeddingBag) and layer.sparse:
            return (
                f"its layer {name or type(layer).__name__} makes sparse gradients, which PyTorch's fused "
                "optimisers do not take; build it without sparse=True"
            )
    return None
