"""Choose between a kernel and its pure twin."""

import os
from importlib import import_module
from typing import Any

#: The environment variable that asks for the twins, where it is 1 before the first import.
PURE_VARIABLE = "LAYERLENS_PURE"


def select_kernel(name: str) -> tuple[Any, str]:
    """The module ``_NAME`` and ``"native"``; or its twin ``_NAME_py`` and ``"pure"``.

    The twin is taken where the extension was not built, or where the environment asks for it.
    """
    if os.environ.get(PURE_VARIABLE) != "1":
        try:
            return import_module(f"layerlens_native._{name}"), "native"
        except ImportError:
            pass
    return import_module(f"layerlens_native._{name}_py"), "pure"
