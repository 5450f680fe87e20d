"""The checker of the built site finds every kind of broken link, and passes what is whole."""

import importlib.util

import pytest

from documentation.blocks import ROOT


@pytest.fixture(scope="module")
def broken():
    spec = importlib.util.spec_from_file_location("links", ROOT / "docs" / "building" / "links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.broken


@pytest.fixture
def site(tmp_path):
    """A folder of two pages and a style, of which the first page may say more."""

    def make(more="", style=""):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "a.html").write_text(
            f'<link rel="stylesheet" href="../s.css?v=1"><h2 id="here">A</h2><a href="#here">1</a>{more}'
        )
        (tmp_path / "b.html").write_text('<h2 id="there">B</h2><a href="docs/a.html#here">2</a>')
        (tmp_path / "s.css").write_text(f"p {{ color: red }} {style}")
        return tmp_path

    return make


WHOLE = ['<a href="../b.html#there">', '<a href="https://arxiv.org">', '<img src="data:image/png;base64,AA==">']


@pytest.mark.parametrize("more", ["", *WHOLE])
def test_a_whole_site_passes(broken, site, more):
    assert broken(site(more)) == []


BROKEN = {
    '<a href="c.html">': "no file for c.html",
    '<a href="../b.html#nowhere">': "no place nowhere",
    '<a href="#nowhere">': "no place nowhere",
    '<a href="/b.html">': "begins at the host",
    '<img src="picture.png">': "no file for picture.png",
    '<script src="https://cdn.example/x.js"></script>': "asked of another host",
    '<link rel="stylesheet" href="//fonts.example/css">': "asked of another host",
    '<p style="background: url(https://x.example/a.png)">': "asked of another host",
    '<img srcset="https://x.example/a.png 2x">': "asked of another host",
    '<meta http-equiv="refresh" content="0; url=c.html">': "no file for c.html",
}


@pytest.mark.parametrize("more", BROKEN)
def test_a_broken_link_is_found(broken, site, more):
    (line,) = broken(site(more))
    assert line.startswith("docs/a.html: ")
    assert BROKEN[more] in line


@pytest.mark.parametrize("style", ["@import 'https://x.example/a.css';", "p { src: url(font.woff2) }"])
def test_what_a_style_loads_is_followed(broken, site, style):
    (line,) = broken(site(style=style))
    assert line.startswith("s.css: ")


def test_a_link_to_the_source_of_a_page_is_broken(broken, site):
    folder = site('<a href="../c.md">')
    (folder / "c.md").write_text("")
    assert "source of a page" in broken(folder)[0]
