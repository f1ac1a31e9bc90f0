"""The questions at the end of part II, *Retrieve* (notebooks 04 to 07)."""

from __future__ import annotations

from exercises.check import quiz

equal = quiz(
    "II.1",
    "Ten chunks of 512 tokens hold more of the answers than ten chunks of 256. A model will read 2,000 tokens. Then:",
    {
        "a": "512 is the better size for this model",
        "b": "compare again at equal tokens: ten chunks of 512 are twice as much text",
        "c": "256 is the better size, because smaller chunks always are",
        "d": "the size does not matter, because the budget is the same",
    },
    right="b",
    why={
        "a": "ten chunks of 512 do not fit into 2,000 tokens. What does the ranking look like up to there?",
        "b": "*At equal what?* is the question to ask of any comparison of chunk sizes.",
        "c": "smaller chunks reach more places and hold less of each. Which one wins has to be measured.",
        "d": "within the same budget, a size decides between few long passages and many short ones.",
    },
)

cosine = quiz(
    "II.2",
    "You replace the embedding model. The old pipeline was silent if the best cosine was below 0.4. Now:",
    {
        "a": "keep 0.4, a cosine is a cosine",
        "b": "scale 0.4 by the ratio of the two models' dimensions",
        "c": "fit a new threshold on labelled questions: each model's cosines lie in a range of its own",
        "d": "no threshold is needed, because a better model does not return wrong passages",
    },
    right="c",
    why={
        "a": "with some models even unrelated texts have a cosine far above 0.4, and nothing would be silent again.",
        "b": "the range of a model's cosines comes from its training, and not from how many numbers a vector has.",
        "c": "A cosine means something only next to other cosines of the same model.",
        "d": "any model returns its k nearest passages, whether or not one of them answers.",
    },
)

names = quiz(
    "II.3",
    "Somebody pastes the name of a setting into the search box. Which part of a hybrid search is made for this?",
    {
        "a": "BM25, because a rare word that matches exactly counts most",
        "b": "the vectors, because they know what the name means",
        "c": "rank fusion, because it knows neither words nor vectors",
        "d": "neither: names need a database",
    },
    right="a",
    why={
        "a": "Names want words, and needs in other words want vectors. Most logs hold questions of both kinds.",
        "b": "a name that the model never saw is cut into pieces, and its vector says little. Look for the exact word.",
        "c": "fusion can only mix what its two parts have found.",
        "d": "an index of words is such a database: it knows in which passages the name occurs.",
    },
)

fusion = quiz(
    "II.4",
    "One part of a hybrid has the answer in first place, the other part does not return it. After RRF, the answer:",
    {
        "a": "stays in first place, because fusion keeps the best of both",
        "b": "is removed, because only one part has it",
        "c": "is in first place or second place, never further down",
        "d": "can fall behind passages that both parts have at mediocre ranks",
    },
    right="d",
    why={
        "a": "fusion adds up votes. It does not know which part is right.",
        "b": "a passage with one vote stays in the list, with a lower sum.",
        "c": "1 / (60 + rank) falls slowly: two votes for a rank far below are more than one vote for the first.",
        "d": "A fusion can lose to its own best part. Measure it beside both of its parts.",
    },
)

ceiling = quiz(
    "II.5",
    "You put a reranker behind a search, and it reads the first 50 candidates. What can it never do?",
    {
        "a": "move an answer from rank 40 to rank 1",
        "b": "bring up an answer that the search has at rank 80",
        "c": "move an answer from rank 3 to rank 20",
        "d": "change the order of the first ten",
    },
    right="b",
    why={
        "a": "this is what it is for: rank 40 is among the candidates.",
        "b": "The candidates' recall is the ceiling. If most is lost before, improve the search.",
        "c": "it can, and sometimes does: a passage that only looks like an answer may get the better score.",
        "d": "it scores all 50 again, the first ten among them.",
    },
)
