"""What a release goes by: one version everywhere, a workflow that is pinned, and the Pythons that are named."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import layerlens_core

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = (ROOT, ROOT / "plugins" / "layerlens-plugin-costbenefit")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = (ROOT / "docs" / "how-to" / "release.md").read_text(encoding="utf-8")
CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def declared(project):
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_there_is_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    versions = {citation["version"], *(declared(project)["project"]["version"] for project in PROJECTS)}
    assert versions == {layerlens_core.__version__}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_every_python_that_is_named_is_tried(project):
    text = (ROOT / "tests" / "packaging" / "test_clean_environments.py").read_text(encoding="utf-8")
    (versions,) = re.findall(r"^VERSIONS = \((.*)\)$", text, re.MULTILINE)
    named = CLASSIFIER.findall("\n".join(declared(project)["project"]["classifiers"]))
    assert named == [version.strip('" ') for version in versions.split(",")]
    assert declared(project)["project"]["requires-python"] == f">={named[0]}"


def test_the_stable_abi_is_that_of_the_least_python():
    project = declared(ROOT)
    least = project["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert project["tool"]["scikit-build"]["wheel"]["py-api"] == f"cp{least}"
    assert project["tool"]["cibuildwheel"]["build"] == f"cp{least}-manylinux_*"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_and_what_workflows_install_are_pinned(workflow):
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [
        action for action in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", action)
    ] == []
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    installed = re.findall(r"pip install (\S+)", workflow.read_text(encoding="utf-8"))
    assert [name for name in installed if "==" not in name and name not in pinned] == []


def test_targets_that_documents_and_workflows_call_are_there():
    rules = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    known = {name for names in rules for name in names.split()}
    called = {
        word
        for text in (RELEASE, *(path.read_text(encoding="utf-8") for path in WORKFLOWS))
        for words in re.findall(r"(?:^|- run: |`)make ([^`\n]*)", text.replace("\n      ", "\n"), re.MULTILINE)
        for word in words.split()
        if "=" not in word
    }
    assert {"packages", "check-distributions"} <= called
    assert called <= known


def test_uploads_need_no_secret_and_wait_for_the_checks():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["publish"]["needs"] == "check"
    assert jobs["publish"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8")


def test_the_readme_warns_of_the_other_project_of_the_name():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "The name `layerlens` on PyPI is another project's" in readme
    for name in ("layerlens-core", "layerlens_core"):
        assert f"`{name}`" in readme
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        commands = re.findall(r"^pip install (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert [
            command for command in commands if re.search(r"(^|\s)layerlens(\[|\s|$)", command.partition("#")[0])
        ] == []
