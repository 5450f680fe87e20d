"""Follow every link of the built site: ``python docs/building/links.py build/site``.

A link to a page has to find it, and the place in it. What a page loads (scripts, styles, pictures, fonts) has to lie in
the site, so that reading it asks no host for anything. Links to other hosts are for the reader, and are not tried.
"""

import posixpath
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import Factory, define

#: Elements that lead somewhere; all others load what they name.
_LEADING = {"a", "area"}
#: Links that say what a page is, and load nothing.
_TOLD = {"canonical", "next", "prev", "search", "index", "alternate"}
_STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)['\"]?\s*\)|@import\s+['\"]([^'\"]+)['\"]")


@define
class _Page(HTMLParser):
    """What a page names: places in it, links, and what it loads."""

    places: set[str] = Factory(set)
    links: list[str] = Factory(list)
    loads: list[str] = Factory(list)

    def __attrs_post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found and tag != "meta"}
        if "href" in found:
            told = tag == "link" and set(found.get("rel", "").split()) <= _TOLD
            (self.links if tag in _LEADING or told else self.loads).append(found["href"])
        self.loads += [found[name] for name in ("src", "poster", "data") if name in found]
        self.loads += [part.split()[0] for part in found.get("srcset", "").split(",") if part.strip()]
        self.loads += [first or second for first, second in _STYLE.findall(found.get("style", ""))]
        if tag == "meta" and found.get("http-equiv", "").lower() == "refresh":
            self.links.append(found["content"].partition("url=")[2])


def broken(site: Path) -> list[str]:
    """What is wrong with a site's links, a line each; empty where nothing is.

    site: its folder.
    """
    pages = {}
    for path in sorted(site.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        pages[path.relative_to(site).as_posix()] = page
    found = [f"{name}: {each}" for name, page in pages.items() for each in _of_page(site, name, page, pages)]
    for path in sorted(site.rglob("*.css")):
        name = path.relative_to(site).as_posix()
        named = [first or second for first, second in _STYLE.findall(path.read_text(encoding="utf-8"))]
        found += [f"{name}: {each}" for each in map(lambda to, name=name: _missing(site, name, to), named) if each]
    return found


def _of_page(site: Path, name: str, page: _Page, pages: dict[str, _Page]) -> list[str]:
    found = [message for each in page.loads if (message := _missing(site, name, each))]
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "mailto"):
            continue
        message = _missing(site, name, link)
        target = pages.get(_target(name, link))
        if message:
            found.append(message)
        elif parts.path.endswith(".md"):
            found.append(f"{link} leads to the source of a page")
        elif target is not None and parts.fragment and unquote(parts.fragment) not in target.places:
            found.append(f"no place {parts.fragment} for {link}")
    return found


def _target(name: str, link: str) -> str:
    """The file that a link of a file leads to, from the site's folder."""
    path = unquote(urlsplit(link).path)
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name


def _missing(site: Path, name: str, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme == "data" or link.startswith("#"):
        return None
    if parts.scheme or parts.netloc:
        return f"{link} would be asked of another host"
    if parts.path.startswith("/"):
        return f"{link} begins at the host, wherever the site lies"
    return None if (site / _target(name, link)).is_file() else f"no file for {link}"


if __name__ == "__main__":
    lines = broken(Path(sys.argv[1]))
    if not any(Path(sys.argv[1]).rglob("*.html")):
        lines = [f"{sys.argv[1]} holds no pages"]
    print(*lines, sep="\n", end="\n" if lines else "")
    sys.exit(bool(lines))
