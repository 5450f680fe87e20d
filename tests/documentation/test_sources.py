"""Links in Markdown files lead to files and headings of the repository, as GitHub follows them."""

import re
from urllib.parse import unquote, urlsplit

import pytest

from documentation.blocks import PAGES, ROOT

_FENCE = re.compile(r"^( *)(`{3,})[^\n`]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")


def prose(path):
    """A page without blocks of code and code in lines."""
    return re.sub(r"`[^`\n]+`", "code", _FENCE.sub("", path.read_text(encoding="utf-8")))


def places(path):
    """The anchors that GitHub gives to the headings of a page."""
    found = []
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in _LINK.findall(prose(path)):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in ("https", "mailto"), link
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert target.is_file(), f"{page}: {link}"  # the site has no pages of folders
        assert target.is_relative_to(ROOT), f"{page}: {link}"
        if parts.fragment:
            assert parts.fragment in places(target), f"{page}: {link}"
