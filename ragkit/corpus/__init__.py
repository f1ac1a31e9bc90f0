"""Documents and labelled questions: fetched documentation, a folder of your own, or a published test set."""

from ragkit.corpus.catalogues import load_catalogues
from ragkit.corpus.formats import load_folder
from ragkit.corpus.labelled import load_beir, load_squad
from ragkit.corpus.pydocs import load_pydocs
from ragkit.corpus.questions import load_questions

__all__ = ["load_beir", "load_catalogues", "load_folder", "load_pydocs", "load_questions", "load_squad"]
