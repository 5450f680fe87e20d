"""Which of a kernel and its pure twin serves."""

import os
from importlib import import_module
from typing import Any

#: Set to 1 before the first import, it asks for the twins.
PURE_VARIABLE = "LAYERLENS_PURE"


def select_kernel(name: str) -> tuple[Any, str]:
    """The module ``_NAME`` and ``"native"``; or its twin ``_NAME_py`` and ``"pure"``.

    The twin serves where the extension was not built, or where the environment asks for it.
    """
    if os.environ.get(PURE_VARIABLE) != "1":
        try:
            return import_module(f"layerlens_native._{name}"), "native"
        except ImportError:
            pass
    return import_module(f"layerlens_native._{name}_py"), "pure"
