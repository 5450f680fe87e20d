"""Programs that tests start in processes of their own; what they are made of, tests import from here too."""

import os
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """That of this process, in which such a program finds the zoo and takes one thread."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}
