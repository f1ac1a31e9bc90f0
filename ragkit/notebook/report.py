"""What ``ragkit.workbench.tryout`` found, as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ragkit.evaluation import compare as stages
from ragkit.evaluation.tune import label
from ragkit.figures import GREEN, SKY, VERMILLION
from ragkit.notebook.display import show_answer
from ragkit.workbench.tryout import Tryout

ADVICE = {
    stages.FOUND: "Nothing to do.",
    stages.IN_PART: "A part of the answer was read. Larger chunks, or neighbours of a hit, bring the rest.",
    stages.BUDGET: "It was found beyond the 2,000 tokens that are read: a larger budget, or better reranking.",
    stages.RERANK: "It was a candidate, and the reranker put it back: read some of these questions.",
    stages.DROPPED: "It was found, and dropped before the end.",
    stages.FUSION: "One of the two searches found it, and fusion put it back: try the other one alone.",
    stages.REWRITING: "The question as it was asked would have found it: leave rewriting out.",
    stages.NOT_RETRIEVED: "No search came near it: its words differ from the documents'. Try more candidates.",
    stages.NO_CHUNK: "No chunk holds it: it was cut at a bad place, or the file was not read right.",
    stages.FAILED: "The search failed: see the message.",
}
"""What to do where answers are lost, by stage."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; } th, td { padding: 3px 10px; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid rgba(128,128,128,.3); } pre { overflow: auto; }
.scroll { overflow: auto; } .bar { display: inline-block; height: .8em; }
"""
_DRAFTED = (
    "These questions were drafted by rules from sentences of the documents: nobody asked them, and they share words "
    "with their answers, which flatters search by words. They show whether the folder works at all; whatever they "
    "prefer, the preset is kept. To choose a pipeline, label some real questions (LabelPanel, or questions.jsonl in "
    "the folder) and run this again."
)


def report_html(result: Tryout) -> str:
    """The report: the choice, answers with their sources, the comparison, where answers were lost, what was read."""
    title = escape(f"{result.corpus.name}: which pipeline, and why")
    sections = (
        ("What was chosen", _choice(result)),
        ("Some answers", "".join(show_answer(answer).html + "<hr>" for answer in result.answers)),
        ("How well it finds", "<div class='scroll'>" + result.comparison._repr_html_() + "</div>"),
        ("Where answers are lost", "".join(_lost(result))),
        ("What was read", _files(result)),
        ("What was tried", _tried(result)),
        ("The configuration", f"<pre>{escape(result.chosen.to_toml())}</pre>"),
    )
    body = "".join(f"<h2>{heading}</h2>{content}" for heading, content in sections)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f"{head}<h1>{title}</h1>{body}</html>"


def _choice(result: Tryout) -> str:
    chosen = result.comparison.table.loc["chosen"]
    whole = len(result.lost.get(stages.FOUND, ()))
    count = len(result.comparison.questions)
    lines = [
        f"<b>{escape(label(result.chosen))}</b>",
        f"Of {count} questions with an answer, {whole} were found whole in what is read; {chosen['ms_p50']:.0f} ms a "
        f"question (median, without encoding it), {chosen['tokens']:.0f} tokens to read.",
        *((_DRAFTED,) if result.drafted else ()),
        f"Reading, trying and this report took {result.seconds:.0f} s.",
    ]
    return "".join(f"<p>{line}</p>" for line in lines)


def _files(result: Tryout) -> str:
    table = result.corpus.report()
    left_out = table[table["left out"] != ""]
    lines = [f"<p>{len(table) - len(left_out)} files were read, {len(left_out)} were left out.</p>"]
    for name, some in (("Left out", left_out), ("All files", table)):
        inner = some.to_html(index=False, border=0, escape=True)
        lines += [f"<details><summary>{name}</summary><div class='scroll'>{inner}</div></details>"] if len(some) else []
    return "".join(lines)


def _lost(result: Tryout) -> Iterator[str]:
    """A bar a stage, with its questions to unfold."""
    most = max(map(len, result.lost.values()))
    for stage, questions in result.lost.items():
        colour = GREEN if stage == stages.FOUND else SKY if stage == stages.IN_PART else VERMILLION
        bar = f"<span class='bar' style='width:{20 * len(questions) / most:.1f}em;background:{colour}'></span>"
        items = "".join(f"<li>{escape(text)}</li>" for text in questions)
        yield (
            f"<details><summary>{bar} {len(questions)} {escape(stage)}</summary>"
            f"<p>{escape(ADVICE[stage])}</p><ul>{items}</ul></details>"
        )


def _tried(result: Tryout) -> str:
    if result.tuned is None:
        return "<p>The questions are about fewer than four documents: too few to choose by one half of them.</p>"
    note = "<p>The questions were drafted, so the preset is kept whatever stands here.</p>" * result.drafted
    return f"{note}<div class='scroll'>{result.tuned._repr_html_()}</div>"
