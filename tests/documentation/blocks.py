"""The blocks of code in a page, and what a comment before them says of running them."""

import re
import shlex
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
#: All pages that people read; those of plugins' templates belong to these, and are run by tests of their own.
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "tests/benchmarks/study/*.md", "plugins/layerlens-plugin-*/*.md")
    for path in ROOT.glob(pattern)
)
#: Languages of blocks that hold commands, Python, or nothing that runs.
COMMANDS, PYTHON, SHOWN = ("", "console", "bash"), ("python",), ("text", "json", "toml", "yaml", "html")
#: Directives of the site.
_SITE = re.compile(r"\{[a-z-]+\}")
_FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- not run(?P<programs>(?:, [a-z]+)*): (?P<reason>[^>]+?) -->\s*\Z")
_PAGE_MARK = re.compile(r"<!-- not run on this page: (?P<reason>[^>]+?) -->")


@frozen(kw_only=True)
class Block:
    """One block.

    page: from the root of the repository.
    line: of the page, where it begins.
    language: as it stands behind the three backticks.
    code: what is in it.
    reason: why it, or a part of it, is not run; None where all of it is.
    programs: whose lines are not run; empty where there is a reason and nothing is.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None = None
    programs: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether anything of it runs."""
        return self.reason is None or bool(self.programs)

    @property
    def module(self) -> str | None:
        """The name of the file that the block is, where its first line says so."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """The blocks of a page in their order, without directives of the site.

    page: from the root of the repository.
    text: what it says; by default what its file does.
    """
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    everywhere = _PAGE_MARK.search(text)
    found = []
    for fence in _FENCE.finditer(text):
        indent, language = fence[1], fence[3].strip()
        if _SITE.fullmatch(language):
            continue
        mark = _MARK.search(text[: fence.start()])
        reason = mark["reason"] if mark else everywhere["reason"] if everywhere else None
        programs = tuple(mark["programs"].split(", ")[1:]) if mark else ()
        code = re.sub(f"^{indent}", "", fence[4], flags=re.MULTILINE)
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page=page, line=line, language=language, code=code, reason=reason, programs=programs))
    return found


def commands_in(block: Block) -> list[list[str]]:
    """The commands of a block as words, without variables that are set before them and without what is printed."""
    code = block.code.replace("\\\n", " ")
    lines = [line for line in code.split("\n") if not line.lstrip().startswith("#")]
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        for part in line.removesuffix("&").split("&&"):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found
