"""The file that describes an experiment: its schema, and reading and writing it.

>>> scenario = load("name: a\\nrounds: 3", overrides=["data.partition.alpha=1e-1"])
>>> scenario.data.partition.alpha
0.1
"""

from fedkt.scenario.adversity import Attack, Churn, Robust
from fedkt.scenario.loading import Source, bundled, dump, from_dict, load, parse_override, to_dict
from fedkt.scenario.schema import (
    Clients,
    Data,
    Distill,
    Engine,
    Evaluate,
    Image,
    Local,
    ModelSpec,
    Participation,
    Partition,
    Privacy,
    PublicSpec,
    Scenario,
    StrategySpec,
    Transfer,
)

__all__ = [
    "Attack",
    "Churn",
    "Clients",
    "Data",
    "Distill",
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
    "dump",
    "from_dict",
    "load",
    "parse_override",
    "to_dict",
]
