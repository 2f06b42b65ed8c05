"""Writes the generated parts of README.md and docs/*.md from code and committed result files.

`python docs/generate.py` rewrites what stands between `<!-- begin NAME -->` and `<!-- end -->`; with `--check` it
only compares, names the files that are out of step and exits with 1. `make docs` runs it; a test checks it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))  # a test loads this file from elsewhere

from sections import (  # noqa: E402
    bench,
    boxes,
    claims,
    drafts,
    engine,
    judging,
    load,
    models,
    perturb,
    reduction,
    safety,
    serve,
    speculation,
    streams,
    tasks,
    training,
)

from foveate.cli.reference import section as command_section  # noqa: E402
from foveate.cli.verbs import VERBS  # noqa: E402
from foveate.media import limits_table  # noqa: E402

SECTION = re.compile(r"(<!-- begin ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SECTIONS: dict[str, Callable[[], str]] = {
    **bench.SECTIONS,
    **boxes.SECTIONS,
    **claims.SECTIONS,
    **drafts.SECTIONS,
    **engine.SECTIONS,
    **judging.SECTIONS,
    **load.SECTIONS,
    **models.SECTIONS,
    **perturb.SECTIONS,
    **reduction.SECTIONS,
    **safety.SECTIONS,
    **serve.SECTIONS,
    **speculation.SECTIONS,
    **streams.SECTIONS,
    **tasks.SECTIONS,
    **training.SECTIONS,
    "limits": limits_table,
}


def section(name: str) -> str:
    """One generated part; names that are no key of SECTIONS are verbs of the command line."""
    if name in SECTIONS:
        return SECTIONS[name]()
    if name in ("verbs", "session") or name.split()[0] in VERBS:
        return command_section(name)
    raise KeyError(f"no generated part is called {name!r}; known: {', '.join(SECTIONS)} and the verbs")


def refresh(document: str) -> str:
    """The document with every generated part made anew."""
    return SECTION.sub(lambda match: f"{match[1]}{section(match[2]).strip()}\n{match[3]}", document)


def documents() -> list[Path]:
    assets = [training.NANO / "README.md", drafts.HEAD / "README.md"]
    return [ROOT / "README.md", *assets, *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        fresh = refresh(text)
        if fresh != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(fresh, encoding="utf-8")
    for path in stale:
        print(f"{path} {'is out of step; run: make docs' if check else 'rewritten'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
