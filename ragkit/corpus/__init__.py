"""Documents and labelled questions: fetched documentation, a folder of your own, or a published test set."""

from ragkit.corpus.pydocs import load_pydocs
from ragkit.corpus.questions import load_questions

__all__ = ["load_pydocs", "load_questions"]
