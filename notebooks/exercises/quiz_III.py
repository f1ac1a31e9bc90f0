"""The questions at the end of part III, *Answer* (notebooks 08 and 09)."""

from __future__ import annotations

from exercises.check import quiz

grounded = quiz(
    "III.1",
    "Every sentence of an answer is supported by the source that it cites. Is the answer right?",
    {
        "a": "yes, that is what grounded means",
        "b": "yes, if the source is from the right document",
        "c": "not necessarily: a true sentence can be the answer to another question",
        "d": "no, a supported answer is a copy and therefore useless",
    },
    right="c",
    why={
        "a": "grounded means that the sources say so. Do they say it about what was asked?",
        "b": "a page has many sentences. The right document can answer another question, too.",
        "c": "Faithful to the sources and right for the question are two properties, with two measures.",
        "d": "a quotation that answers the question is a fine answer.",
    },
)

silence = quiz(
    "III.2",
    "You raise the threshold below which the pipeline says *not found*. What do you expect?",
    {
        "a": "fewer questions are answered, and of the answers a larger share is right",
        "b": "more questions are answered, and of the answers a larger share is right",
        "c": "the same questions are answered, with more confidence",
        "d": "only the questions without an answer are affected",
    },
    right="a",
    why={
        "a": "Coverage against accuracy is a curve. Where to stand on it depends on what a wrong answer costs you.",
        "b": "a higher threshold withholds more answers, not fewer.",
        "c": "the threshold decides who is answered at all. It changes no answer.",
        "d": "some questions with an answer have a low score, too. They are the price.",
    },
)

scorer = quiz(
    "III.3",
    "An automatic scorer calls 90 % of a system's sentences supported. What do you ask first?",
    {
        "a": "how many sentences there are; with enough of them the 90 % is the truth",
        "b": "how often the scorer itself is wrong, for which kinds of error, against labels",
        "c": "whether the scorer is a larger model than the writer",
        "d": "nothing; a scorer is deterministic",
    },
    right="b",
    why={
        "a": "many sentences make the figure precise. They do not make a scorer right that misses swapped roles.",
        "b": "A scorer is a model with an error rate. Report it beside the score.",
        "c": "size is no measure. Labels that nobody has fitted it to say how good a judge is.",
        "d": "to be wrong in the same way each time is still to be wrong.",
    },
)

missing = quiz(
    "III.4",
    "A judge returned a verdict for 60 of 100 answers; the others could not be read. How do you report its score?",
    {
        "a": "count the 40 as 0: no verdict, no point",
        "b": "count the 40 as 1: no complaint was made",
        "c": "report the mean of the 60, as if it were the mean of all",
        "d": "report the mean of the 60, and that it covers 60 of 100",
    },
    right="d",
    why={
        "a": "then the score mixes how good the answers are with how well the judge writes JSON.",
        "b": "an unreadable verdict is no praise.",
        "c": "the unreadable ones may be the difficult ones, and the reader could not know that they are missing.",
        "d": "A missing verdict is missing, not zero. Every judged score needs its coverage.",
    },
)

judged = quiz(
    "III.5",
    "A small judge's AUROC against labels is .47, with an interval from .30 to .64. What do you conclude?",
    {
        "a": "it is worse than chance, so turn its verdicts round",
        "b": "it cannot be told from a coin, so do not report its scores",
        "c": "it is right in 47 % of the cases",
        "d": "nothing: a judge needs no labels",
    },
    right="b",
    why={
        "a": "the interval holds .5, so that it is worse than chance is not shown.",
        "b": "As far as these labels can tell, it orders answers like a coin.",
        "c": "AUROC is how often a supported sentence scores higher than another one, no share of right verdicts.",
        "d": "without labels nobody can know whether a score means anything.",
    },
)
