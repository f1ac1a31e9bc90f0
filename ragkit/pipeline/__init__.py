"""The whole pipeline, question in and answer out: ``rag.py`` is the machine, ``presets.py`` the ways to set it up."""

from ragkit.pipeline.presets import advanced, modular, naive
from ragkit.pipeline.rag import RAGPipeline

__all__ = ["RAGPipeline", "advanced", "modular", "naive"]
