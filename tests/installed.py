"""Python processes of their own that see what is really installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

from attrs import frozen

#: What would change the outcome if it came from the developer's own shell.
OURS = ("LAYERLENS_PURE", "LAYERLENS_DISABLE_PLUGINS", "IMPORT_MARKS", "PYTHONPATH")


def environment(**variables):
    """The environment of this process without `OURS`; colours are off, so that output can be compared."""
    return {name: value for name, value in os.environ.items() if name not in OURS} | {"NO_COLOR": "1"} | variables


@frozen
class Python:
    """Runs Python in a directory of its own, with a folder of installed distributions on the path."""

    directory: Path
    path: Path | None = None

    def __call__(self, *arguments, **variables):
        if self.path is not None:
            variables = {"PYTHONPATH": str(self.path), **variables}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.directory,
            env=environment(**variables),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
        )

    def layerlens(self, *arguments, **variables):
        """The command line, as a process of its own."""
        return self("-m", "layerlens_core", *arguments, **variables)

    def listing(self, *options, **variables):
        """What ``layerlens plugins --json`` says; it has to succeed."""
        done = self.layerlens(*options, "plugins", "--json", **variables)
        assert done.returncode == 0, done.stderr
        return Listing(json.loads(done.stdout))

    def pip(self, *arguments):
        """pip without an index: whatever is installed comes from the sources at hand."""
        done = self("-m", "pip", *arguments, PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@frozen
class Listing:
    """The document of ``layerlens plugins --json``."""

    document: dict

    @property
    def plugins(self):
        """Plugins by distribution."""
        return {plugin["distribution"]: plugin for plugin in self.document["plugins"]}

    @property
    def providers(self):
        """The distribution of every usable provider, by kind and name."""
        return {(each["kind"], each["name"]): each["distribution"] for each in self.document["providers"]}

    @property
    def conflicts(self):
        return self.document["conflicts"]
