"""What may cross the wire. ``kinds`` says which arrays each kind of knowledge consists of, ``codec`` encodes
and checks them, ``protocol`` packs them into the two messages of a round, ``contributions`` stacks them.

Imports nothing else of the project. Begin with :class:`Logits` and :func:`encode`.
"""

from fedkt.knowledge.codec import LIMIT, Expected, Rejected, Spec, decode, encode, few, size
from fedkt.knowledge.contributions import Contributions, client_order, stack
from fedkt.knowledge.kinds import (
    Alignment,
    Answers,
    ClassLogits,
    Dims,
    Knowledge,
    LabelProbabilities,
    Logits,
    Nothing,
    Numbers,
    Prototypes,
    PrototypeSets,
    Quantised,
    Votes,
    Weights,
    row_ids,
)
from fedkt.knowledge.protocol import PROTOCOL
from fedkt.knowledge.top_logits import TopLogits

__all__ = [
    "LIMIT",
    "PROTOCOL",
    "Alignment",
    "Answers",
    "ClassLogits",
    "Contributions",
    "Dims",
    "Expected",
    "Knowledge",
    "LabelProbabilities",
    "Logits",
    "Nothing",
    "Numbers",
    "PrototypeSets",
    "Prototypes",
    "Quantised",
    "Rejected",
    "Spec",
    "TopLogits",
    "Votes",
    "Weights",
    "client_order",
    "decode",
    "encode",
    "few",
    "row_ids",
    "size",
    "stack",
]
