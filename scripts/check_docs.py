"""Checks what the documents promise: every relative link leads somewhere, every command they show exists.

$ .venv/bin/python scripts/check_docs.py
docs: 9 files, 41 links, 63 commands
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"```[a-z-]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
# A command at the start of a line or code span, after an optional prompt and environment assignments.
COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(make|edgewright|edgewright-agent) ([a-z][a-z-]*)", re.M
)


def documents() -> list[Path]:
    """Return every Markdown file of the repository itself."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("agent/*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(text: str) -> set[str]:
    """Return the anchors GitHub gives the headings of a document."""
    titles = re.findall(r"^#+\s+(.+?)\s*$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def verbs() -> dict[str, set[str]]:
    """Return what can follow each command: make's targets and the verbs of both programs."""
    from edgewright.cli import VERBS

    # The agent says itself what it can do: "    once      poll, verify, …"
    agent = subprocess.run(
        [sys.executable, "-m", "edgewright_agent", "--help"], capture_output=True, text=True, check=True
    )
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    agent_verbs = re.findall(r"^    ([a-z][a-z-]*)(?:  |$)", agent.stdout, re.M)
    return {"make": targets, "edgewright": set(VERBS), "edgewright-agent": set(agent_verbs)}


def broken_links(file: Path, text: str) -> Iterator[str]:
    """Yield a sentence for each relative link without a target."""
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (file.parent / path) if path else file
        if not found.exists():
            yield f"{target} does not exist"
        elif anchor and found.suffix == ".md" and anchor not in anchors(found.read_text()):
            yield f"{target}: no such heading"


def unknown_commands(text: str, known: dict[str, set[str]]) -> Iterator[str]:
    """Yield a sentence for each command that the program does not have."""
    for block, span in CODE.findall(text):
        for program, verb in COMMAND.findall(block or span):
            if verb not in known[program]:
                yield f"`{program} {verb}` does not exist"


def main() -> int:
    """Print every broken promise; return 1 when there is one."""
    known = verbs()
    problems: list[str] = []
    links = commands = 0
    for file in documents():
        text = file.read_text()
        prose = CODE.sub("", text)
        links += len(LINK.findall(prose))
        commands += sum(len(COMMAND.findall(block or span)) for block, span in CODE.findall(text))
        found = [*broken_links(file, prose), *unknown_commands(text, known)]
        problems.extend(f"{file.relative_to(ROOT)}: {problem}" for problem in found)
    print("\n".join(problems) or f"docs: {len(documents())} files, {links} links, {commands} commands")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
