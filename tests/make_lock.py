"""Write requirements.lock, the exact version of all that ``ragkit-workbench[all]`` needs, from what is installed, and
requirements-scale.lock, what the extra ``scale`` needs beside it. The floors in pyproject.toml become the same
versions: nothing older was tried.

Only the closure of the declared dependencies is written, so a stray package of this environment never gets in.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every package of ragkit-workbench[all], pinned; written by `make lock` (Python 3.11, Linux), do not edit.
# Install torch first and alone: `make setup` does.
"""
SCALE_HEADER = """\
# What ragkit-workbench[scale] needs beside requirements.lock, pinned; written by `make lock`, do not edit.
# pip install -c requirements.lock -r requirements-scale.lock
"""


def declared() -> dict[str, list[Requirement]]:
    """The dependencies in pyproject.toml by extra; the base ones under ``""``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}


def _needs(requirement: Requirement) -> Iterator[Requirement]:
    """What ``requirement`` itself needs on this machine."""
    for line in distribution(requirement.name).requires or ():
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
            yield need


def closure(*extras: str) -> dict[str, str]:
    """Canonical name -> installed version of all that the base and ``extras`` need, without local build tags.

    Without ``extras``: those of ``all``.
    """
    own, groups = "ragkit-workbench", declared()
    todo = [requirement for extra in ("", *(extras or ["all"])) for requirement in groups[extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    pins: dict[str, str] = {}
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (key := (name, frozenset(requirement.extras))) in seen:
            continue
        seen.add(key)
        if name == own:
            todo.extend(need for extra in requirement.extras for need in groups[extra])
            continue
        try:
            version = distribution(name).version
        except PackageNotFoundError:
            raise SystemExit(f"{requirement} is declared or needed but not installed: pip install it first") from None
        if not requirement.specifier.contains(version, prereleases=True):
            raise SystemExit(f"{name} {version} is installed, but {requirement} is asked for")
        pins[name] = version.split("+")[0]
        todo.extend(_needs(requirement))
    return pins


def with_floors(text: str, pins: dict[str, str]) -> str:
    """The text of pyproject.toml with the version of ``pins`` in every ``"name>=version``.

    >>> with_floors('"PyStemmer>=3.0", "jsonschema>=4.1,<4.25"', {"pystemmer": "3.1.0", "jsonschema": "4.24.1"})
    '"PyStemmer>=3.1.0", "jsonschema>=4.24.1,<4.25"'
    """

    def floor(match: re.Match[str]) -> str:
        return f'"{match[1]}>={pins.get(canonicalize_name(match[1]), match[2])}'

    return re.sub(r'"([A-Za-z0-9][\w.-]*)>=([\w.]+)', floor, text)


def write(name: str, header: str, pins: Mapping[str, str]) -> None:
    (ROOT / name).write_text(header + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    sys.stdout.write(f"{name}: {len(pins)} packages\n")


def main() -> None:
    pins, more = closure(), closure("all", "scale")
    project = ROOT / "pyproject.toml"
    project.write_text(with_floors(project.read_text(), more))
    write("requirements.lock", HEADER, pins)
    write("requirements-scale.lock", SCALE_HEADER, {name: more[name] for name in more.keys() - pins.keys()})


if __name__ == "__main__":
    main()
