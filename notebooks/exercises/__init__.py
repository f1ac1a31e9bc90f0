"""The exercises of the course: ``from exercises import check`` in a notebook beside this folder."""

from exercises.check import check

__all__ = ["check"]
