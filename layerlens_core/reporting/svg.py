"""Charts as SVG that lies within a page: nothing that a strict Content-Security-Policy refuses, nothing fetched."""

import re
from typing import Any
from xml.etree import ElementTree

from layerlens_core.reporting.charts import configured, drawable

_SVG = "http://www.w3.org/2000/svg"
_STYLE = re.compile(r"\s*([\w-]+)\s*:\s*([^;]+?)\s*(?:;|$)")
#: What may be fetched, or run, and is never needed.
_REFUSED = {"script", "style", "image", "foreignObject", "a"}


def inline_svg(chart: Any, *, label: str, prefix: str) -> str:
    """A chart as an SVG element.

    chart: of Altair.
    label: what it shows, for those who cannot see it.
    prefix: of all ids in it, which are one page's.

    Raises ``ValueError`` where its numbers or names cannot be drawn.
    """
    import vl_convert

    specification = _drawable(configured(chart).to_dict())
    return _inlined(vl_convert.vegalite_to_svg(specification), label=label, prefix=prefix)


def _drawable(value: Any) -> Any:
    """A specification in which every text can be drawn."""
    if isinstance(value, str):
        return drawable(value)
    if isinstance(value, dict):
        return {name: _drawable(inside) for name, inside in value.items()}
    return [_drawable(inside) for inside in value] if isinstance(value, list) else value


def _inlined(text: str, *, label: str, prefix: str) -> str:
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in [each for each in parent if _local(each.tag) in _REFUSED]:
            parent.remove(child)
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "style":
                del element.attrib[name]
                element.attrib.update(dict(_STYLE.findall(value)))
            elif name.startswith("aria") or name in ("role", "class", "pointer-events") or "}" in name:
                del element.attrib[name]
            elif name == "id":
                element.set(name, f"{prefix}-{value}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{prefix}-"))
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]
