"""Nothing that can be used is left out of the documentation: hooks, fields, names, commands, options, providers."""

import inspect
import re
import typing

import attrs
import click
import pytest

import layerlens_core
import layerlens_plugin_costbenefit
from documentation.blocks import ROOT
from layerlens_core import cli, plugin, testing
from layerlens_core.plugin.discovery import providers_of
from layerlens_core.plugin.hookspecs import HOOKS
from layerlens_core.plugin.providers import KINDS, kind_of
from layerlens_core.values.scores import Normalizer
from layerlens_core.values.statistics import STATISTICS

DOCS = ROOT / "docs"
REFERENCE = {
    layerlens_core: "python.md",
    plugin: "plugin.md",
    testing: "testing.md",
}
_ENTRY = re.compile(r"^\.\. (?:auto\w+|py:data):: ([\w.]+)$", re.MULTILINE)


def page(name):
    """The text of a page in docs."""
    return (DOCS / name).read_text(encoding="utf-8")


def described(module):
    """The names of a module that its page of the reference describes, and those that it finds described elsewhere."""
    text = page(f"reference/{REFERENCE[module]}")
    names = {entry.rpartition(".")[2] for entry in _ENTRY.findall(text) if entry.rpartition(".")[0] == module.__name__}
    return names, set(re.findall(r"`(\w+)`", text.partition("\n## ")[0]))


@pytest.mark.torch
@pytest.mark.parametrize("module", REFERENCE, ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module):
    names, elsewhere = described(module)
    shared = set(layerlens_core.__all__) if module is not layerlens_core else set()
    assert set(module.__all__) == names | (elsewhere & shared & set(module.__all__))
    assert not [name for name in names if inspect.ismodule(getattr(module, name))]


def public_things():
    for module in REFERENCE:
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found) or inspect.isfunction(found):
                yield f"{module.__name__}.{name}", found


@pytest.mark.torch
def test_every_field_of_a_public_record_and_every_parameter_is_described():
    missing = []
    for name, found in public_things():
        if inspect.isclass(found):
            wanted = [f.name for f in attrs.fields(found) if f.init and f.name[0] != "_"] if attrs.has(found) else []
        else:
            wanted = [p.name for p in inspect.signature(found).parameters.values() if p.kind is not p.VAR_POSITIONAL]
        text = inspect.getdoc(found) or ""
        missing += [f"{name}: {each}" for each in wanted if not re.search(rf"^{each}: |``{each}``", text, re.MULTILINE)]
    assert not missing


def test_every_hook_is_in_the_guide_and_in_the_reference():
    for hook in HOOKS:
        assert f".. autofunction:: layerlens_core.plugin.hookspecs.{hook}\n" in page("reference/plugin.md")
        assert hook in page("plugins.md")


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_provider_is_in_the_guide(kind):
    for field in attrs.fields(KINDS[kind]):
        assert f"`{field.name}`" in page("plugins.md"), field.name


def test_every_statistic_is_in_the_guide():
    assert all(f"`{name}`" in page("plugins.md") for name in STATISTICS)


def all_commands(command=cli.main, path="layerlens"):
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from all_commands(each, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_and_its_options_are_described(path, command):
    """The reference is made from the help, so that what has no help has no description."""
    assert command.help, path
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help or option.show_default, f"{path} {option.opts[0]}"
    everywhere = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *DOCS.rglob("*.md")))
    assert path in everywhere


def test_the_reference_of_commands_is_made_from_the_program():
    text = page("reference/command-line.md")
    assert ".. click:: layerlens_core.cli:main\n" in text
    assert ":nested: full\n" in text


def builtin():
    import layerlens_builtin

    return [*providers_of(layerlens_builtin), *providers_of(layerlens_plugin_costbenefit)]


#: Kind of provider -> the page that has a section, or else a row, for each.
CONCEPTS = {
    "metric": "concepts/signals.md",
    "aggregator": "concepts/signals.md",
    "strategy": "concepts/strategies.md",
    "method": "concepts/methods.md",
    "exporter": "how-to/trainers.md",
}


@pytest.mark.parametrize("provider", builtin(), ids=lambda provider: provider.name)
def test_what_comes_with_layerlens_has_its_section(provider):
    text = page(CONCEPTS[kind_of(provider)])
    if kind_of(provider) in ("aggregator", "exporter"):
        assert f"`{provider.name}`" in text or f"--to {provider.name}" in text or provider.name == "peft"
        return
    section = text.partition(f"\n## `{provider.name}`\n")[2].partition("\n## ")[0]
    assert "**Evidence.**" in section
    assert "$" in section or provider.name == "uniform"
    if provider.name != "none":
        assert "**Limits.**" in section
    for option in getattr(provider, "options", ()):
        assert f"`{option}`" in text


def test_no_section_is_of_what_is_gone():
    names = {provider.name for provider in builtin()}
    for name in set(CONCEPTS.values()) - {"how-to/trainers.md"}:
        assert set(re.findall(r"^## `([a-z_-]+)`$", page(name), re.MULTILINE)) <= names


def test_every_normalizer_is_described():
    assert all(f"| `{name}` |" in page("concepts/signals.md") for name in typing.get_args(Normalizer))


def test_every_environment_variable_is_told():
    found = set()
    for folder in ("layerlens_core", "native", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= set(re.findall(r"\"(LAYERLENS_[A-Z_]+)\"", path.read_text(encoding="utf-8")))
    assert len(found) >= 3
    assert all(f"`{name}`" in page("stability.md") for name in found)
