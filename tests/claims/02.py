"""What the prose of notebook 02 promises."""


def the_report_names_what_was_not_read(corpus):
    """Page 6 of the handbook has no text, salaries.pdf needs a password, a header and a footer were dropped."""
    files = {report.file: report for report in corpus.files}
    assert files["handbook.pdf"].without_text == (6,)
    assert len(files["handbook.pdf"].dropped) == 2
    assert "password" in files["salaries.pdf"].left_out
    assert [name for name, report in files.items() if report.left_out] == ["salaries.pdf"]


def the_answer_about_glasses_is_on_a_page(answer):
    """The quote is from a page of the PDF, and answers the question."""
    assert answer.citations[0].page == 4
    assert "110 euros" in answer.citations[0].quote


def chunks_are_cut_inside_headings(chunks):
    """The folder is only 23 chunks long; the second begins inside a heading and goes on into working hours."""
    assert len(chunks) == 23
    assert chunks[1].text.strip().startswith("for a limited time\n")
    assert "# Working hours" in chunks[1].text


def few_questions_are_drafted(drafts, corpus):
    """Five questions about two of seven documents."""
    assert len(drafts) == 5
    assert len({question.gold[0].doc_id for question in drafts}) == 2
    assert len(corpus.documents) == 7


def the_labels_are_read(labels, answerable):
    """26 questions, 23 with an answer."""
    assert len(labels) == 26
    assert len(answerable) == 23


def the_panel_saves_what_is_clicked(corpus, ten_questions):
    """Each click is saved at once."""
    import tempfile
    from pathlib import Path

    from ragkit.notebook.labelling import LabelPanel
    from ragkit.workbench import load_labels

    file = Path(tempfile.mkdtemp()) / "questions.jsonl"
    panel = LabelPanel(corpus, ten_questions, file)
    panel.choose[0].click()
    assert len(load_labels(file, corpus)) == 1


def the_drafts_reverse_the_order(on_drafts, on_labels):
    """The drafts put the search by words first, with a perfect score; the labels put it last."""
    drafts, labels = on_drafts.table["mrr@3"], on_labels.table["mrr@3"]
    assert drafts["bm25"] == 1.0 > max(drafts["naive"], drafts["advanced"])
    assert labels["bm25"] < labels["naive"] < labels["advanced"]


def none_is_told_apart(on_labels):
    """Advanced is ahead of bm25 by a third and naive by a sixth, and neither can be told apart from it."""
    table = on_labels.table
    assert (table.loc[["naive", "advanced"], "verdict"] == "no detectable difference").all()
    assert 0.1 < table.loc["naive", "diff"] < table.loc["advanced", "diff"] < on_labels.minimum_detectable
    assert round(23 * table.loc["advanced", "hit@3"]) == 22


def many_found_passages_are_not_quoted(outcomes):
    """About half of the questions with an answer get the right words, the others none; two without get an answer."""
    right = outcomes.count(("has an answer", "quotes the right words"))
    silent = outcomes.count(("has an answer", "no answer"))
    assert 10 <= right <= 14
    assert right + silent == 23
    assert outcomes.count(("has none", "quotes something else")) >= 1


def the_passage_about_sick_children_is_first(reply, sick_child):
    """The right passage stands first, and there is no answer, because the source lacks the words of the question."""
    assert reply.abstained
    assert "no source mentions" in reply.reason
    assert reply.hits[0].chunk.span.answers(sick_child.gold[0])


def the_old_rate_is_quoted(reply):
    """The old rate is in the first quote, and of the mail that replaces it only the greeting is quoted."""
    assert "0.30" in reply.citations[0].quote
    assert reply.citations[0].chunk.doc_id == "handbook"
    assert "0.38" not in reply.text
    assert any(citation.chunk.doc_id.startswith("mail") for citation in reply.citations)


def many_are_alike_and_the_start_stays(tuned):
    """More than ten of 40 configurations are level with the best, and the start is what is chosen."""
    table = tuned.table
    assert len(table) == 40
    assert (table["diff"] == 0).sum() > 10
    assert tuned.chosen is tuned.start
    assert 11 <= len(tuned.holdout) <= 12


def the_gate_closes_once(only_words, no_travel):
    """Without vectors the gate closes; without travel.docx it does not, although three questions lose everything."""
    assert not only_words.passed
    assert no_travel.passed
    assert sum(change == -1 for change in no_travel.changes.values()) == 3
