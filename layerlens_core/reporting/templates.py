"""The templates of pages and of what notebooks show; all that is filled in is escaped."""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: Where a name may be broken into lines.
_BREAKS = re.compile(r"(?<=[._])|(?<=[a-z])(?=[A-Z])")


def filled(template: str, **values: Any) -> str:
    """A template with values in it.

    template: the name of its file.
    values: by the names that it has for them.
    """
    text: str = _environment().get_template(template).render(values)
    return text


@cache
def text_of(name: str) -> str:
    """The content of a file that lies beside this module."""
    return (files("layerlens_core.reporting") / name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(text_of), trim_blocks=True)
    made.filters["breaking"] = _breaking
    return made


def _breaking(name: str) -> "Markup":
    """A qualified name that may be broken after dots and underscores, and before capital letters."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(name))
