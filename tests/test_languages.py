"""A folder in another language gets a multilingual model, its stemmer and stop words; what is made for English stays
out, an English folder is as it was, and whoever chooses is obeyed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit import cli
from ragkit.base import Chunk, Corpus, Document, FileReport, InputError
from ragkit.chunking import chunk_corpus
from ragkit.corpus import load_folder
from ragkit.embedding.e5 import E5_SMALL
from ragkit.generation import Extractive, WithFallback
from ragkit.generation.abstain import Abstaining
from ragkit.generation.factory import make_llm
from ragkit.languages import STEMMERS, defaults_for
from ragkit.notebook.labelling import proposers
from ragkit.notebook.widgets import ChunkSearch, LabSettings
from ragkit.pipeline import RAGPipeline, advanced, modular
from ragkit.pipeline.config import Modules, PipelineConfig
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore
from ragkit.tokens import MINILM
from ragkit.workbench.draft import draft
from ragkit.workbench.tryout import try_folder

GERMAN = {
    "urlaub.md": "# Urlaub\n\nJedem Mitarbeiter stehen dreißig Urlaubstage im Jahr zu. Sie verfallen am Ende des März "
    "im folgenden Jahr, wenn sie bis dahin nicht genommen worden sind.\n",
    "parken.md": "# Parken\n\nDie Parkplätze hinter dem Haus sind für Gäste der Firma bestimmt. Wer mit dem Fahrrad "
    "kommt, stellt es in den Keller, der von außen zu öffnen ist.\n",
    "reise.md": "# Reisen\n\nEine Reise wird zwei Wochen vorher bei der Leitung beantragt. Die Kosten werden "
    "erstattet, sobald alle Belege im Büro abgegeben worden sind.\n\n## Wann wird erstattet?\n\nNach zehn Tagen.\n",
    "kueche.txt": "Wer zuletzt geht, schaltet die Spülmaschine ein. **Kaffee** wird von der Firma gezahlt, und Kuchen "
    "bringt mit, wer Geburtstag hat.\n",
}
SPANISH = (
    "Las vacaciones se piden con dos semanas de antelación a la dirección, y los gastos del viaje se pagan cuando se "
    "entregan todos los recibos en la oficina."
)
RUSSIAN = (
    "Сотрудники подают заявление на отпуск за две недели до его начала, а расходы на поездку возмещаются после того, "
    "как все документы сданы в бухгалтерию предприятия."
)
ENGLISH = (
    "Every employee has thirty days of holiday in a year, and they must be taken before the end of March in the year "
    "that follows. The parking spaces behind the house are for guests of the company."
)


def write(folder: Path, texts: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def asked_for(monkeypatch, ragkit_home) -> list[str]:
    """The names of the models that stores were opened with; every model is a stand-in."""
    names: list[str] = []
    monkeypatch.setattr("ragkit.token_store.load_embedder", lambda name: names.append(name) or FakeEmbedder())
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return names


@pytest.fixture
def german(tmp_path) -> Corpus:
    return load_folder(write(tmp_path / "handbuch", GERMAN))


@pytest.fixture
def mixed(tmp_path) -> Corpus:
    with pytest.warns(UserWarning, match="languages mixed, so a multilingual model and no stemming: eng 56%, spa 44%"):
        return load_folder(write(tmp_path / "mixed", {"a.txt": ENGLISH, "b.txt": SPANISH}))


# ---- which language


@pytest.mark.parametrize(("text", "language"), [(SPANISH, "spa"), (RUSSIAN, "rus"), (ENGLISH, "eng"), ("x = 3", "")])
def test_the_language_of_a_folder_is_that_of_its_files(text, language, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = load_folder(write(tmp_path, {"a.txt": text, "b.txt": "1 2 3"}))
    assert (corpus.language, dict(corpus.notes)) == (language, {})


def test_a_mixed_folder_says_so(mixed):
    assert mixed.language == "mul"
    assert dict(mixed.notes) == {"languages mixed, so a multilingual model and no stemming": 2}


@given(st.dictionaries(st.sampled_from(["deu", "eng", "rus", ""]), st.integers(1, 1000)))
def test_four_fifths_of_what_is_recognised_decide(characters):
    files = tuple(FileReport(code, "txt", characters=n, language=code) for code, n in characters.items())
    corpus = Corpus("c", (), files=files)
    known = {code: n for code, n in characters.items() if code}
    most = max(known, key=known.__getitem__, default="")
    assert sum(corpus.languages.values()) == pytest.approx(1 if known else 0)
    if known and known[most] < 0.8 * sum(known.values()):
        assert corpus.language == "mul"
    else:
        assert corpus.language == most


# ---- what it gets


@pytest.mark.parametrize("code", [*STEMMERS, "cmn", "heb", "mul", ""])
def test_every_language_has_an_analyzer_that_works(code):
    analyzer = Analyzer.for_language(code)
    assert analyzer.terms("Kiswahili 2024")
    assert defaults_for(code).encoder == (MINILM if code in ("", "eng") else E5_SMALL)


def test_english_and_unknown_texts_have_the_analyzer_that_they_had():
    assert Analyzer.for_language("eng") == Analyzer.for_language("") == Analyzer()


@pytest.mark.parametrize("name", ["german", "de", "DEU"])
def test_what_is_no_code_is_refused(name):
    with pytest.raises(InputError, match="expected an ISO 639-3 code, such as 'eng' or 'deu'"):
        Analyzer.for_language(name)


def bm25_of(rag: RAGPipeline) -> BM25Retriever:
    hybrid = rag.vector_store
    while not isinstance(hybrid, Hybrid):  # sub-questions, a router, a reranker
        hybrid = hybrid.retriever if hasattr(hybrid, "retriever") else hybrid.fallback
    (bm25,) = [one for one in hybrid.inputs if isinstance(one, BM25Retriever)]
    return bm25


def test_presets_and_configurations_follow_the_folder(german, asked_for):
    for rag in (advanced(german), modular(german), RAGPipeline.from_config(CONFIG, german)):
        assert bm25_of(rag).analyzed.analyzer == Analyzer(language="german")
        assert isinstance(rag.llm, Extractive)
        assert rag.llm.analyzer == Analyzer(language="german")
        assert [hit.chunk.doc_id for hit in bm25_of(rag).search("Parkplatz")] == ["parken"]  # the text: Parkplätze
    assert asked_for == [E5_SMALL] * 3


CONFIG = PipelineConfig.from_toml("""
retriever = "both"
modules.words = {kind = "BM25Retriever"}
modules.vectors = {kind = "DenseRetriever"}
modules.both = {kind = "Hybrid", inputs = ["words", "vectors"]}
""")


def test_a_mixed_folder_is_not_stemmed(mixed, asked_for):
    rag = advanced(mixed)
    assert asked_for == [E5_SMALL]
    assert bm25_of(rag).analyzed.analyzer == Analyzer(stem=False, stop_words=False)
    assert bm25_of(rag).search("parking spaces")[0].chunk.doc_id == "a"
    assert bm25_of(rag).search("recibo") == []  # the text: recibos


def test_the_widgets_follow_the_folder_and_export_what_they_do(german, asked_for):
    setting, search = LabSettings(scoring="bm25"), ChunkSearch(german)
    shown = search.retriever(setting, chunk_corpus(search.chunker(setting), german))
    made: dict[str, object] = {"corpus": german}
    *lines, measuring = setting.code(german.language).splitlines()
    exec("\n".join(lines), made)
    assert measuring.startswith("compare(")
    for one in (shown, made["retriever"], proposers(german)["words"]):
        assert isinstance(one, BM25Retriever)
        assert one.analyzed.analyzer == Analyzer(language="german")
    assert set(asked_for) == {E5_SMALL}


def test_an_explicit_choice_wins(german, ragkit_home, asked_for):
    own = Analyzer(stem=False)
    rag = advanced(german, store=TokenStore.open(german, FakeEmbedder(), progress=False), analyzer=own)
    assert bm25_of(rag).analyzed.analyzer == own
    config = CONFIG.to_toml().replace('kind = "BM25Retriever"', 'kind = "BM25Retriever"\nlanguage = "eng"')
    rag = RAGPipeline.from_config(PipelineConfig.from_toml(config), german)
    assert bm25_of(rag).analyzed.analyzer == Analyzer()
    assert asked_for == [E5_SMALL]


def test_english_is_as_it_was(tmp_path, asked_for):
    corpus = load_folder(write(tmp_path / "handbook", {"a.txt": ENGLISH}))
    for one in (corpus, Corpus("by hand", corpus.documents)):
        rag = advanced(one)
        assert bm25_of(rag).analyzed.analyzer == Analyzer()
        assert isinstance(rag.llm, Extractive)
        assert rag.llm.analyzer is None
    assert asked_for == [MINILM] * 2
    # Written down before languages were told apart.
    assert CONFIG.fingerprint == "610f170c48c3b916ca5ed04cf5f6f03d59120631d2f66e390068d8a12db368cd"


# ---- what is made for English


def test_quotes_do_not_abstain_by_english_words(german, ragkit_home, monkeypatch):
    monkeypatch.setattr(FakeEmbedder, "name", MINILM)
    store = TokenStore.open(german, FakeEmbedder(), progress=False)
    assert isinstance(make_llm("extractive", store), Extractive)
    store.language = "eng"
    assert isinstance(make_llm("extractive", store), Abstaining)


def test_the_local_model_says_that_it_writes_english(german, mixed, asked_for, monkeypatch):
    monkeypatch.setattr("ragkit.generation.factory.LocalModel.check", lambda self: None)
    for corpus, which in ((german, r"another language \(deu\)"), (mixed, "several languages")):
        with pytest.warns(UserWarning, match=f"was made for English, and these documents are in {which}"):
            assert isinstance(make_llm("local", TokenStore.open(corpus)), WithFallback)
    english = Corpus("english", (Document("a", ENGLISH),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_llm("local", TokenStore.open(english))


def test_the_repair_of_english_words_steps_aside(german, asked_for):
    config = CONFIG.model_copy(update={"rewriter": "Spelling"})
    with pytest.warns(UserWarning, match="'Spelling' repairs English words"):
        assert RAGPipeline.from_config(config, german).rewriter is None


def test_only_headings_are_drafted_from_other_languages(german):
    assert [question.text for question in draft(german)] == ["Wann wird erstattet?"]


def test_quotes_go_by_the_words_of_the_language():
    """Chinese puts no spaces between words: without its analyzer no word of the question stands in the text."""
    text = "员工每年有三十天的假期。\n\n停车场在房子后面。"
    chunk = Chunk("a", 0, len(text), text)
    assert Extractive()._stems("停车场").isdisjoint(Extractive()._stems(text))
    quoting = Extractive(analyzer=Analyzer.for_language("cmn"))
    assert quoting._stems("停车场") <= quoting._stems(chunk.text)


# ---- from the command line


def test_a_german_folder_is_asked_in_other_forms_of_its_words(tmp_path, asked_for, capsys):
    folder = write(tmp_path / "handbuch", GERMAN)
    assert cli.main(["ask", "Für wen ist ein Parkplatz bestimmt?", "--corpus", str(folder), "--llm", "extractive"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Die Parkplätze hinter dem Haus sind für Gäste der Firma bestimmt.")
    assert "[1] parken: Parken" in printed.out
    assert "languages" not in printed.err
    assert asked_for == [E5_SMALL]


def test_a_german_folder_is_evaluated_and_tried(tmp_path, asked_for, capsys):
    folder = write(tmp_path / "handbuch", GERMAN)
    labels = [
        {"question": "Wem gehört ein Parkplatz?", "document": "parken.md", "quote": "für Gäste der Firma bestimmt"},
        {"question": "Wer darf Kuchen mitbringen?", "document": "kueche.txt", "quote": "wer Geburtstag hat"},
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    assert cli.main(["eval", "--corpus", str(folder), "--preset", "advanced"]) == 0
    assert "advanced" in capsys.readouterr().out
    steps: list[str] = []
    result = try_folder(folder, step=steps.append)
    assert (result.corpus.language, result.drafted) == ("deu", False)
    assert any("multilingual-e5-small, which takes longer" in step for step in steps)
    built = Modules(result.chosen, result.corpus, TokenStore.open(result.corpus))
    assert isinstance(built.module(result.chosen.retriever), Hybrid)
    assert set(asked_for) == {E5_SMALL}
