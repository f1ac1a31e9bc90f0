"""Modular RAG: small retrievers that contain retrievers. Each does one thing, and all of them nest.

``Router`` and ``Federated`` choose among collections, ``Filtered``, ``Parent``, ``Neighbours`` and ``MMR`` change
what comes out of a search, ``MultiHop`` and ``Corrective`` search more than once. The ``parts`` of their hits say
what each step did.
"""

from ragkit.retrieval.modular.federated import Federated, cori
from ragkit.retrieval.modular.kinds import QuestionKind, is_name, pieces, specialists
from ragkit.retrieval.modular.routing import (
    Centroids,
    Decision,
    NearestExamples,
    OneNamed,
    Router,
    Rules,
    Together,
    Vocabulary,
    Votes,
    by_name,
)
from ragkit.retrieval.modular.shaping import MMR, Filtered, Neighbours, Parent
from ragkit.retrieval.modular.steps import Corrective, EachNamed, MultiHop, best_score, by_rank, interleave

__all__ = [
    "MMR",
    "Centroids",
    "Corrective",
    "Decision",
    "EachNamed",
    "Federated",
    "Filtered",
    "MultiHop",
    "NearestExamples",
    "Neighbours",
    "OneNamed",
    "Parent",
    "QuestionKind",
    "Router",
    "Rules",
    "Together",
    "Vocabulary",
    "Votes",
    "best_score",
    "by_name",
    "by_rank",
    "cori",
    "interleave",
    "is_name",
    "pieces",
    "specialists",
]
