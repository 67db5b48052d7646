"""The file that describes an experiment: its schema, and reading and writing it.

>>> scenario = load("name: a\\nrounds: 3", overrides=["data.partition.alpha=1e-1"])
>>> scenario.data.partition.alpha
0.1

May import from ``distill`` downwards. Begin with :class:`Scenario` (``schema``); each part of it is in
``about_*``.
"""

from fedkt.scenario.about_adversity import Attack, Board, Churn, Drift, Robust
from fedkt.scenario.about_clients import Clients, Distill, Local, ModelSpec
from fedkt.scenario.about_data import Data, Partition, PublicSpec, Transfer
from fedkt.scenario.about_images import Image
from fedkt.scenario.about_privacy import Privacy
from fedkt.scenario.explain import setting_keys
from fedkt.scenario.loading import (
    Source,
    bundled,
    check_importable,
    dump,
    from_dict,
    load,
    parse_override,
    plain,
    to_dict,
)
from fedkt.scenario.schema import Checkpoint, Engine, Evaluate, Participation, Scenario, StrategySpec

__all__ = [
    "Attack",
    "Board",
    "Checkpoint",
    "Churn",
    "Clients",
    "Data",
    "Distill",
    "Drift",
    "Engine",
    "Evaluate",
    "Image",
    "Local",
    "ModelSpec",
    "Participation",
    "Partition",
    "Privacy",
    "PublicSpec",
    "Robust",
    "Scenario",
    "Source",
    "StrategySpec",
    "Transfer",
    "bundled",
    "check_importable",
    "dump",
    "from_dict",
    "load",
    "parse_override",
    "plain",
    "setting_keys",
    "to_dict",
]
