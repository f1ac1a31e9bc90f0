"""Under an answer: was it right, what was wrong, what would have been? Saved with the answer's trace.

Every control can be set from code (``panel.thumb.value = -1; panel.save.click()``) and then does what a click does.
"""

from __future__ import annotations

from html import escape

import ipywidgets as w

from ragkit.base import Answer, Chunk, RagkitError
from ragkit.figures import GREEN, VERMILLION
from ragkit.notebook.display import StaticView, show_answer, show_passage
from ragkit.production.feedback import REASONS, FeedbackStore

_WIDE = w.Layout(width="auto")
_ROW = w.Layout(flex_flow="row wrap", align_items="center")
_BOX, _REST = w.Layout(width="170px"), w.Layout(flex="1 1 300px", min_width="0")
_CHIP = w.Layout(width="auto", margin="2px")
_ASKED = "What is the right answer? A passage, copied, is best."
_THUMBS = {"it helps": 1, "it does not": -1}
_WORDS = {1: "thumb up", -1: "thumb down"}


class FeedbackPanel(StaticView, w.VBox):  # type: ignore[misc]
    """The answer with its sources, two thumbs, reasons, a correction, and a box to tick for each wrong source.

    What can't be saved (an unknown trace, a locked file) stays in the panel, with a line that says why. Whoever saves
    again has changed their mind: the last opinion counts.

    Args:
        answer: with the trace id that ``store``'s monitor knows.
        store: where opinions are kept.
        who: whose opinions these are.
    """

    def __init__(self, answer: Answer, store: FeedbackStore, who: str = "") -> None:
        self.answer, self.store, self.who = answer, store, who
        icons = ["thumbs-up", "thumbs-down"]
        self.thumb = w.ToggleButtons(
            options=list(_THUMBS.items()), value=None, icons=icons, style={"button_width": "auto"}
        )
        chips = [w.ToggleButton(description=reason, tooltip=why, layout=_CHIP) for reason, why in REASONS.items()]
        self.reasons = dict(zip(REASONS, chips, strict=True))
        # Not at every key: those updates are held back while the kernel is busy, and a click on Save overtakes them.
        self.correction = w.Textarea(placeholder=_ASKED, rows=3, layout=_WIDE, continuous_update=False)
        self.comment = w.Text(placeholder="Anything else?", layout=_WIDE, continuous_update=False)
        self._sources = _sources(answer)
        self.flags = {
            chunk.id: w.Checkbox(description=f"{label} beside the point".strip(), indent=False, layout=_BOX)
            for chunk, label in self._sources
        }
        self.save = w.Button(description="Save", icon="check", button_style="primary", tooltip="Keep this opinion")
        self.status = w.HTML()
        self._shown = show_answer(answer).html
        shown = w.HTML(f'<div style="max-height:320px;overflow:auto">{self._shown}</div>')
        passages = [w.HTML(show_passage(chunk).html, layout=_REST) for chunk, _ in self._sources]
        boxes = zip(self.flags.values(), passages, strict=True)
        super().__init__(
            [
                *(shown, self.thumb, w.HBox(chips, layout=_ROW), self.correction, self.comment),
                *(w.HBox([flag, passage], layout=_ROW) for flag, passage in boxes),
                w.HBox([self.save, self.status], layout=_ROW),
            ]
        )
        self.add_class("ragkit-feedback")
        self.save.on_click(lambda _: self._save())
        self._say("Nothing saved yet.")

    def __repr__(self) -> str:
        sources = len(self._sources)
        return f"FeedbackPanel({self.answer.question!r}: {sources} source{'' if sources == 1 else 's'})"

    def static_html(self) -> str:
        """The answer, what can be said of it, and what was saved."""
        choices = (" · ".join(f"[{word}]" for word in words) for words in (_THUMBS, self.reasons))
        return f"{self._shown}<p>{'<br>'.join(map(escape, choices))}</p><p>{self.status.value}</p>"

    def _save(self) -> None:
        if self.thumb.value is None:
            self._say("Not saved: choose a thumb first.", VERMILLION)
            return
        try:
            record = self.store.add(
                self.answer.trace_id,
                self.thumb.value,
                [reason for reason, chip in self.reasons.items() if chip.value],
                self.correction.value,
                [chunk_id for chunk_id, box in self.flags.items() if box.value],
                self.comment.value,
                self.who,
            )
        except (RagkitError, OSError) as error:
            self._say(f"Not saved, and nothing of it is lost here: {error}", VERMILLION)
            return
        lines = [f"Saved as record {record.number}: {_WORDS[record.thumb]}", *record.reasons]
        lines += [f"{len(record.flagged)} flagged"] * bool(record.flagged) + ["corrected"] * bool(record.correction)
        lines += ["the cache has forgotten this answer"] * record.forgotten
        self._say(" · ".join(lines), GREEN)

    def _say(self, what: str, colour: str = "transparent") -> None:
        self.status.value = (
            f'<span role="status" style="padding-left:8px;border-left:4px solid {colour}">{escape(what)}</span>'
        )


def _sources(answer: Answer) -> list[tuple[Chunk, str]]:
    """What can be flagged, and how it is called: the sources that the answer cites, then what else was found.

    A source may join several hits that are neighbours; these are not offered again.
    """
    cited = list(dict.fromkeys((citation.chunk, f"[{citation.number}]") for citation in answer.citations))
    inside = [chunk.span for chunk, _ in cited]
    rest = [hit.chunk for hit in answer.hits if not any(hit.chunk.span.answers(span) for span in inside)]
    return cited + [(chunk, "") for chunk in rest]
