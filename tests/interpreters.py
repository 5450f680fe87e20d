"""The versions of Python that lie on this machine."""

import os
import shutil
import subprocess
from pathlib import Path


def interpreter(version: str) -> Path | None:
    """A Python of this version ("3.12"): on the PATH, or where pyenv and uv keep theirs. None where there is none."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    kept = (
        *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")),
        *sorted(home.glob(f".local/share/uv/python/cpython-{version}.*/bin/python{version}")),
    )
    named = shutil.which(f"python{version}")
    for candidate in (*([Path(named)] if named else []), *kept):
        if _says(candidate) == version:
            return candidate
    return None


def _says(python: Path) -> str:
    """The version that a program says it is of; a shim of pyenv may lead nowhere, and says nothing."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    return done.stdout.strip()
