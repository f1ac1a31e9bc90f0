"""Your own documents: labelled questions, and what the lessons run on."""

from ragkit.workbench.labels import (
    course_corpus,
    label,
    load_labels,
    question_kind,
    questions_by_kind,
    save_labels,
    unanswerable,
)

__all__ = [
    "course_corpus",
    "label",
    "load_labels",
    "question_kind",
    "questions_by_kind",
    "save_labels",
    "unanswerable",
]
