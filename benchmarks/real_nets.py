"""Nets of torchvision, timm and transformers as clients: each trains, teaches and is taught for a round.

    python -m pip install --no-deps --target NETS timm torchvision transformers
    PYTHONPATH=NETS python -m benchmarks.real_nets [WORDS]

Untrained nets on 60 digits of 32 x 32 pixels in three channels, or on made rows: whether they run, not how
well. WORDS choose rows of what is printed. No weights are downloaded.
"""

import sys
import tempfile
import time
import types
from typing import Any

import numpy as np

import fedkt
from fedkt.errors import InputError

IMAGES = {
    "dataset": "digits",
    "image": {"size": 32, "channels": 3},
    "partition": {"kind": "iid", "clients": 2, "samples_per_client": 30},
    "transfer": {"size": 30},
}
EMBEDDED = {
    "dataset": "benchmarks.real_nets:embedded",
    "partition": {"kind": "iid", "clients": 2},
    "transfer": {"size": 30},
}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "torchvision resnet18, norm: group": ("tv:resnet18", {"head": "fc", "norm": "group"}),
    "torchvision resnet18, trainable: head": ("tv:resnet18", {"head": "fc", "trainable": "head"}),
    "torchvision resnet18, norm: refuse": ("tv:resnet18", {"head": "fc", "norm": "refuse"}),
    "torchvision mobilenet_v3_small, norm: group": (
        "tv:mobilenet_v3_small",
        {"head": "classifier.3", "norm": "group"},
    ),
    "timm resnet10t, norm: group": ("timm:resnet10t", {"head": "fc", "norm": "group"}),
    "timm resnet10t, trainable: head": ("timm:resnet10t", {"head": "fc", "trainable": "head"}),
    "timm efficientnet_lite0, norm: group": (
        "timm:efficientnet_lite0",
        {"head": "classifier", "norm": "group"},
    ),
    "timm test_vit, trainable: head": ("timm:test_vit", {"head": "head", "trainable": "head"}),
    "transformers ViT (.logits)": ("hf:ViT", {"head": "classifier"}),
    "transformers ViT (.logits), trainable: head": ("hf:ViT", {"head": "classifier", "trainable": "head"}),
    "transformers ResNet (.logits), norm: group": ("hf:ResNet", {"head": "classifier.1", "norm": "group"}),
    "transformers BERT, two inputs": (
        "hf:Bert",
        {"head": "classifier", "inputs": {"inputs_embeds": [4, 16], "attention_mask": [4]}},
    ),
}
SMALL: dict[str, dict[str, Any]] = {
    "ViT": {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2}
    | {"num_attention_heads": 2, "intermediate_size": 64},
    "ResNet": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
    "Bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    | {"vocab_size": 10},
}


def made(input: Any, classes: int, *, net: str) -> Any:
    """Return a library's net as it comes, for some other number of classes."""
    library, _, name = net.partition(":")
    if library == "hf":
        import transformers

        task = "SequenceClassification" if name == "Bert" else "ImageClassification"
        config = getattr(transformers, f"{name}Config")(**SMALL[name])
        return getattr(transformers, f"{name}For{task}")(config)
    # Of torchvision's operators the compiled half wants CUDA; no net needs them.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("none"))
    if library == "tv":
        import torchvision

        return getattr(torchvision.models, name)(weights=None)
    import timm

    size = {"img_size": 32, "patch_size": 8} if "vit" in name else {}
    return timm.create_model(name, pretrained=False, **size)


def embedded() -> Any:
    """Return rows of two inputs by name, four vectors and which of them count, and two classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    vectors = rng.normal(size=(200, 64))
    vectors[:, :16] += 1.5 * y[:, None]
    return {"inputs_embeds": vectors, "attention_mask": np.ones((200, 4))}, y


def main(words: list[str]) -> None:
    """Print a line for each net."""
    for label, (net, settings) in NETS.items():
        if words and not any(word in label for word in words):
            continue
        clients: dict[str, Any] = {"models": [{"name": "benchmarks.real_nets:made", "net": net, **settings}]}
        clients |= {"local": {"epochs": 1, "batch_size": 10}, "distill": {"epochs": 1}}
        described = {"name": "nets", "data": EMBEDDED if "inputs" in settings else IMAGES, "clients": clients}
        described |= {"strategy": "fedmd", "rounds": 1, "engine": {"kind": "inline"}}
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                replies = fedkt.simulate(described, out=f"{folder}/run").summary["replies"]
            told = f"{replies['accepted']} of 2 replies accepted, {time.monotonic() - begun:.0f} s"
        except InputError as error:
            told = str(error)
        print(f"{label}: {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
