"""Documents and labelled questions: fetched documentation, a folder of your own, or a published test set."""

from ragkit.corpus.datasets import load_beir, load_catalogues, load_questions, load_squad, with_faq_headings
from ragkit.corpus.folder import load_folder
from ragkit.corpus.pydocs import load_pydocs

__all__ = [
    "load_beir",
    "load_catalogues",
    "load_folder",
    "load_pydocs",
    "load_questions",
    "load_squad",
    "with_faq_headings",
]
