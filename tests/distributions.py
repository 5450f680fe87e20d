"""Built distributions, and what they hold."""

import configparser
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

from attrs import frozen


@frozen
class Wheel:
    """A wheel and what it holds."""

    path: Path

    @property
    def names(self) -> list[str]:
        with zipfile.ZipFile(self.path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]

    @property
    def contents(self) -> set[str]:
        """The files outside the ``.dist-info`` folder."""
        return {name for name in self.names if ".dist-info/" not in name}

    @property
    def top_level(self) -> set[str]:
        return {name.partition("/")[0] for name in self.contents}

    @property
    def tags(self) -> tuple[str, str, str]:
        """What the name says of Python, ABI and platform."""
        python, abi, platform = self.path.stem.split("-")[-3:]
        return python, abi, platform

    def read(self, name: str) -> str:
        """A file of the ``.dist-info`` folder."""
        (found,) = [each for each in self.names if each.endswith(f".dist-info/{name}")]
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(found).decode()

    def entry_points(self, group: str) -> dict[str, str]:
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.read_string(self.read("entry_points.txt"))
        return dict(parser[group])

    @property
    def metadata(self) -> Message:
        return Parser().parsestr(self.read("METADATA"))

    @property
    def description(self) -> str:
        """What PyPI shows."""
        return self.metadata.get_payload()

    def unpack(self, folder: Path) -> None:
        with zipfile.ZipFile(self.path) as archive:
            archive.extractall(folder)


@frozen
class Sdist:
    """A source distribution and what it holds."""

    path: Path

    @property
    def names(self) -> set[str]:
        """Paths below the one folder at the top."""
        with tarfile.open(self.path) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}

    def unpack(self, folder: Path) -> Path:
        """The unpacked sources, in the one folder that they bring."""
        with tarfile.open(self.path) as archive:
            archive.extractall(folder, filter="data")
        (top,) = folder.iterdir()
        return top


@frozen
class Distributions:
    """A source distribution and a wheel of the core, and of the plugin."""

    core: Wheel
    plugin: Wheel
    core_sdist: Sdist
    plugin_sdist: Sdist

    @classmethod
    def at(cls, folder: Path) -> "Distributions":
        """Those in a folder, which holds one of each and nothing else."""
        (core,) = folder.glob("layerlens_core-*.whl")
        (plugin,) = folder.glob("layerlens_plugin_costbenefit-*.whl")
        (core_sdist,) = folder.glob("layerlens_core-*.tar.gz")
        (plugin_sdist,) = folder.glob("layerlens_plugin_costbenefit-*.tar.gz")
        assert len(list(folder.iterdir())) == 4, sorted(folder.iterdir())
        return cls(Wheel(core), Wheel(plugin), Sdist(core_sdist), Sdist(plugin_sdist))
