"""What ``ragkit.workbench.tryout`` found, as one HTML file that needs nothing beside it::

Path("report.html").write_text(report_html(try_folder("~/handbook")))
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from statistics import median

from ragkit.base import Answer, InputError
from ragkit.evaluation.compare import FOUND, IN_PART
from ragkit.evaluation.losses import ADVICE, UNUSED
from ragkit.evaluation.tune import label
from ragkit.notebook.display import show_answer, show_lost
from ragkit.notebook.page_view import page_pictures
from ragkit.workbench.tryout import EXAMPLES, Tryout

PICTURES = 1_500_000
"""Characters of HTML that the pictures of pages may take, so that the report can be sent by mail."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
body { overflow-wrap: anywhere; } table { border-collapse: collapse; overflow-wrap: normal; }
th, td { padding: 3px 10px; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid rgba(128,128,128,.3); } pre { overflow: auto; }
.scroll { overflow: auto; } summary { cursor: pointer; }
"""
_DRAFTED = (
    "These questions were drafted by rules from sentences of the documents: nobody asked them, and they share words "
    "with their answers, which flatters search by words. Drafts and the FAQ ranked 15 pipelines with a correlation of "
    ".875 on one collection of documentation, and of only .464 on another. They show whether the folder works at all; "
    "whatever they prefer, the preset is kept. To choose a pipeline, label some real questions (LabelPanel, or "
    "questions.jsonl in the folder) and run this again."
)
FEW = 10
"""With fewer drafted questions, the figures of the report say nothing."""
_METRICS = (
    "<i>chosen</i> is the pipeline above, <i>naive</i> a plain search by one vector a chunk. <i>mrr</i>: one divided "
    "by the rank of the first chunk that holds the answer; <i>hit</i>: the share of questions for which there is one; "
    "<i>coverage</i>: how much of the answer is in what is read."
)
_LOST = (
    "The stages that a question passes, from the file to the answer, and how many were lost at each. Unfold one to see "
    "what to do about it, and its questions."
)
_NO_ROOM = "<p><small>The pictures of these pages are left out, to keep this file small.</small></p>"


def report_html(result: Tryout) -> str:
    """The report: the choice, answers with their sources, the comparison, where answers were lost, what was read."""
    title = escape(f"{result.corpus.name}: which pipeline, and why")
    sections = (
        ("What was chosen", _choice(result)),
        ("Some answers", "".join(_answers(result))),
        ("How well it finds", f"<p>{_METRICS}</p><div class='scroll'>{result.comparison._repr_html_()}</div>"),
        ("Where answers are lost", _lost(result)),
        ("What was read", _files(result)),
        ("What was tried", _tried(result)),
        ("The configuration", f"<pre>{escape(result.chosen.to_toml())}</pre>"),
    )
    body = "".join(f"<h2>{heading}</h2>{content}" for heading, content in sections)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{title}</title><style>{_STYLE}</style>"
    return f"{head}<h1>{title}</h1>{body}</html>"


def _choice(result: Tryout) -> str:
    chosen = result.comparison.table.loc["chosen"]
    times = [answer.timings["total"] for answer in result.answers]
    used = [answer.usage.input_tokens + answer.usage.output_tokens for answer in result.answers]
    lines = [
        f"<b>{escape(label(result.chosen))}</b>",
        _found(result),
        f"A search takes {chosen['ms_p50']:.0f} ms, a whole answer {median(times):.0f} ms (medians, on the machine "
        f"that wrote this); {chosen['tokens']:,.0f} tokens are read for it.",
        *([f"The writer took {median(used):,.0f} tokens a question, prompt and answer."] if any(used) else []),
        *((_DRAFTED,) if result.drafted else ()),
        *(_few(result) if result.drafted else ()),
        f"Reading, trying and this report took {result.seconds:.0f} s.",
    ]
    return "".join(f"<p>{line}</p>" for line in lines)


def _few(result: Tryout) -> list[str]:
    count = len(result.questions)
    return [f"<b>Only {count} questions could be drafted: their figures say nothing.</b>"] if count < FEW else []


def _found(result: Tryout) -> str:
    """How many of the questions with an answer were found, and how many answers made use of it."""
    count = {stage: len(result.lost.get(stage, ())) for stage in ADVICE}
    used = count[FOUND] + count[IN_PART]
    sentence = f"The search found the answer to {used + count[UNUSED]} of {sum(count.values())} questions"
    return f"{sentence}, and {used} of the written answers cite it." if _all_answered(result) else f"{sentence}."


def _all_answered(result: Tryout) -> bool:
    return len(result.answers) == len(result.questions)


def _answers(result: Tryout) -> Iterator[str]:
    """The first answers, each with the pages that it cites as far as there is room for pictures."""
    room = PICTURES
    for answer in result.answers[:EXAMPLES]:
        pages = "".join(_pages(answer, result))
        if len(pages) > room:
            pages = _NO_ROOM
        room -= len(pages)
        yield show_answer(answer).html + pages + "<hr>"


def _pages(answer: Answer, result: Tryout) -> Iterator[str]:
    try:
        pictures = page_pictures(answer.citations, result.folder)
    except InputError as error:
        yield f"<p><small>{escape(str(error))}</small></p>"
        return
    for picture in pictures:
        title = escape(f"{picture.source}, page {picture.number}")
        yield f"<details><summary>{title}, with the quotes marked</summary>{picture.html}</details>"


def _files(result: Tryout) -> str:
    table = result.corpus.report()
    left_out = table[table["left out"] != ""]
    lines = [f"<p>{len(table) - len(left_out)} files were read, {len(left_out)} were left out.</p>"]
    for name, some in (("Left out", left_out), ("All files", table)):
        inner = some.to_html(index=False, border=0, escape=True)
        lines += [f"<details><summary>{name}</summary><div class='scroll'>{inner}</div></details>"] if len(some) else []
    return "".join(lines)


def _lost(result: Tryout) -> str:
    """A bar a stage, with its questions to unfold."""
    note = f" Only the first {len(result.answers)} questions were answered." * (not _all_answered(result))
    unused = result.lost.get(UNUSED, ())
    reasons = {answer.question: answer.reason for answer in result.answers if answer.question in unused}
    return f"<p>{_LOST}{note}</p>{show_lost(result.lost, result.not_parsed | reasons).html}"


def _tried(result: Tryout) -> str:
    if result.tuned is None:
        return "<p>The questions are about fewer than four documents: too few to choose by one half of them.</p>"
    note = "<p>The questions were drafted, so the preset is kept whatever stands here.</p>" * result.drafted
    return f"{note}<div class='scroll'>{result.tuned._repr_html_()}</div>"
