"""The code blocks of README and docs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
PROGRAM = "asymrnr-tune"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: path of its file.
        line: of its first line in it.
        language: as the fence says.
        note: of a comment before it: "not run: REASON", or "excerpt: FILE" of this project.
        text: its content.
    """

    page: Path
    line: int
    language: str
    note: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in its order."""
    found, note = [], ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            assert token.map is not None
            found.append(Block(page, token.map[0] + 1, token.info.strip(), note, token.content))
        note = (
            token.content.strip().removeprefix("<!--").removesuffix("-->").strip() if token.type == "html_block" else ""
        )
    return found


def blocks(language: str) -> list[Block]:
    """All blocks in a language."""
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def command_lines(block: Block) -> list[list[str]]:
    """Arguments of every call of the project's program in a shell block."""
    calls = []
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.replace("&&", ";").split(";"):
            words = shlex.split(command, comments=True)
            if words and Path(words[0]).name == PROGRAM:
                calls.append(words[1:])
    return calls
