"""Modular RAG: small retrievers that contain retrievers. Each does one thing, and all of them nest.

``Router`` chooses among collections, ``Filtered``, ``Parent``, ``Neighbours`` and ``MMR`` change
what comes out of a search, ``MultiHop`` and ``Corrective`` search more than once. The ``parts`` of their hits say
what each step did.
"""

from ragkit.retrieval.modular.routing import (
    Decision,
    OneNamed,
    Router,
    Rules,
    Together,
    Vocabulary,
    Votes,
    by_name,
)
from ragkit.retrieval.modular.shaping import MMR, Filtered, Neighbours, Parent
from ragkit.retrieval.modular.steps import Corrective, EachNamed, MultiHop, best_score, by_rank

__all__ = [
    "MMR",
    "Corrective",
    "Decision",
    "EachNamed",
    "Filtered",
    "MultiHop",
    "Neighbours",
    "OneNamed",
    "Parent",
    "Router",
    "Rules",
    "Together",
    "Vocabulary",
    "Votes",
    "best_score",
    "by_name",
    "by_rank",
]
