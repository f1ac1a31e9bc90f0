"""The exercise of ``00_start_here``."""

from __future__ import annotations

from exercises.check import exercise


@exercise(
    "00.1",
    expects=str,
    hint='"retrieve", "augment" or "generate": after which of them was the right passage not there?',
    praise="What is not retrieved cannot be answered. This is why most of the course is about retrieval.",
)
def decisive_stage(answer: str) -> str | None:
    stage = answer.strip().casefold()
    if stage in ("generate", "generation"):
        return (
            "the generator only sees the passages it is given. If the right one is not among them, the best "
            "writer in the world can only say so, or make something up."
        )
    if stage in ("augment", "augmentation"):
        return "augmenting pastes the passages into a prompt. It cannot paste in a passage that was never found."
    if stage not in ("retrieve", "retrieval"):
        return f"{answer!r} is none of the three stages: retrieve, augment, generate."
    return None
