"""The questions at the end of part V, *Run* (notebooks 12 to 14)."""

from __future__ import annotations

from exercises.check import quiz

quantile = quiz(
    "V.1",
    "Nine queries take 40 ms and one takes 900 ms. Which figure describes what the slowest users wait?",
    {
        "a": "the mean, 126 ms",
        "b": "the median, 40 ms",
        "c": "a high quantile, such as p95",
        "d": "the smallest, 40 ms",
    },
    right="c",
    why={
        "a": "nobody waited 126 ms: it is between those who waited briefly and the one who waited long.",
        "b": "the median describes the one in the middle, and hides the slow end altogether.",
        "c": "Quantiles show the tail (of ten queries, with a wide interval); the trace of a slow query shows why.",
        "d": "that is what the luckiest user waited.",
    },
)

popular = quiz(
    "V.2",
    "One badly answered question becomes popular, and 60 people ask it. A test on all queries reports a drift. Why?",
    {
        "a": "because the users' topic has changed for good",
        "b": "because it takes 60 repetitions of one question for 60 independent observations",
        "c": "because 60 queries are too few",
        "d": "because the documents have changed",
    },
    right="b",
    why={
        "a": "all other questions are as before. One question was repeated.",
        "b": "Queries of a log are not independent. Equal questions are one piece of evidence.",
        "c": "with fewer queries a test says less, not more. Why does it see evidence here at all?",
        "d": "nothing changed in the documents: the same question has the same score each time.",
    },
)

thumbs = quiz(
    "V.3",
    "A user gives a thumbs-down. When does it become a regression test?",
    {
        "a": "at once, with the best suggestion as the right passage",
        "b": "after three users have done the same",
        "c": "never, users are unreliable",
        "d": "when a person has confirmed that the answer is wrong, and where the right one is",
    },
    right="d",
    why={
        "a": "from a thumb alone, most suggestions are wrong. Such a test would demand a wrong passage.",
        "b": "three thumbs make it likelier that something is wrong. They do not say where the right answer is.",
        "c": "they are wrong sometimes, and they see what no monitor sees. Have someone look.",
        "d": "A thumb is a reason to look. A label needs a person who has looked.",
    },
)

repair = quiz(
    "V.4",
    "A repair passes all five tests that were made of five flags. What shows whether it is better for everybody?",
    {
        "a": "that it passes all five",
        "b": "compare, on labelled questions that had no part in the repair",
        "c": "that the five users are content",
        "d": "that no new flag comes in for a week",
    },
    right="b",
    why={
        "a": "a list of five fixed answers passes all five, too, and helps nobody else.",
        "b": "What you repaired by cannot judge the repair. The five stay as a guard: green must stay green.",
        "c": "they are the five for whom it was made.",
        "d": "few users give feedback at all, so a quiet week says little.",
    },
)

semantic = quiz(
    "V.5",
    "A semantic cache returns the stored answer of the nearest question. What is its most dangerous hit?",
    {
        "a": "a question that asks the opposite: nearly the same words, and so nearly the same vector",
        "b": "a question in another language",
        "c": "a long question",
        "d": "a question that was asked before, word for word",
    },
    right="a",
    why={
        "a": "A stricter threshold does not remove it, because the reversals are the nearest.",
        "b": "if its vector is far away, it is a miss, and a miss is safe.",
        "c": "length is no danger by itself. Which two questions are near each other and need different answers?",
        "d": "that is the hit that any cache may serve, as long as the key holds the settings and the tenant.",
    },
)
