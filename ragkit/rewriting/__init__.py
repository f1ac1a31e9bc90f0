"""Rewriting: search with other words than those that were typed. See ``Rewritten``, and the notebook on rewriting."""

from ragkit.rewriting.expansion import Acronyms, Identifiers
from ragkit.rewriting.feedback import RM3, Rocchio
from ragkit.rewriting.fused import Rewriting, Rewritten, fuse
from ragkit.rewriting.llm import Decompose, HyDE, LLMRewriter, MultiQuery, StepBack
from ragkit.rewriting.parts import Parts
from ragkit.rewriting.spelling import Spelling
from ragkit.rewriting.typos import misspelt

__all__ = [
    "RM3",
    "Acronyms",
    "Decompose",
    "HyDE",
    "Identifiers",
    "LLMRewriter",
    "MultiQuery",
    "Parts",
    "Rewriting",
    "Rewritten",
    "Rocchio",
    "Spelling",
    "StepBack",
    "fuse",
    "misspelt",
]
