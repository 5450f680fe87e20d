"""What an exporter owes (`layerlens_core.plugin.protocols.Export`), as checks on plans for tiny models."""

import ast
import json
import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import frozen

from layerlens_core.errors import LayerLensError
from layerlens_core.plugin.export import ExportRequest
from layerlens_core.plugin.providers import ExporterProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.testing.chance import seeded
from layerlens_core.testing.check import Check, Failed, common_checks, named, require
from layerlens_core.testing.models import tiny_model, tiny_profile
from layerlens_core.testing.plans import plan_of
from layerlens_core.testing.registries import isolated_registry
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

#: What is exported, in words: the tiny model, the method, and whether all layers get one size.
CASES: Mapping[str, tuple[str, str, bool]] = {
    "LoRA of one rank": ("llama", "lora", True),
    "LoRA of several ranks": ("llama", "lora", False),
    "adapters": ("llama", "adapter", True),
    "LoRA of a classifier": ("bert-classifier", "lora", True),
    "LoRA of experts": ("mixtral", "lora-experts", True),
    "nothing": ("llama", "none", True),
}
#: What every trainer can express.
PLAIN = "LoRA of one rank"


def check_exporter(provider: ExporterProvider, *, module: str | None = None) -> list[Check]:
    """The clauses of an exporter's contract, for ``pytest.mark.parametrize("check", …, ids=str)``.

    provider: the record.
    module: where its hooks are; None takes the module of its ``load``.
    """
    exporter = _Exporter(provider)
    return [
        *common_checks(provider, module),
        Check("exports-a-plan-of-lora", exporter.exports),
        Check("returns-what-it-writes", exporter.returns),
        Check("writes-files-that-parse", exporter.parses),
        Check("refuses-before-it-writes", exporter.refuses),
        Check("is-deterministic", exporter.is_deterministic),
        Check("survives-save-and-load", exporter.survives),
    ]


@frozen
class _Outcome:
    """What came of one export: the files as they were written, and what was returned; or the error.

    files: the content of every file there, by its path.
    returned: what the exporter returned.
    error: that it raised.
    """

    files: Mapping[Path, bytes]
    returned: Any = None
    error: Exception | None = None


class _Exporter:
    """One exporter, and what it writes of plans."""

    def __init__(self, provider: ExporterProvider) -> None:
        self._provider = provider
        self._made: dict[str, _Outcome] = {}
        self._made_again: dict[str, _Outcome] = {}

    @cached_property
    def _place(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="layerlens-export-")

    def exports(self) -> None:
        """A plan of LoRA at one rank, which every trainer takes, is exported."""
        error = self._of(PLAIN).error
        require(error is None, f"{named(self._provider)} refuses {PLAIN}: {error}")

    def returns(self) -> None:
        """It returns the paths of all that it wrote, in the directory that it was given, as a tuple."""
        for case, outcome in self._written():
            found = outcome.returned
            require(
                isinstance(found, tuple) and all(isinstance(path, Path) for path in found),
                f"{named(self._provider)} returns {found!r} for {case}, not a tuple of paths",
            )
            missing = set(outcome.files) - set(found)
            unknown = [str(path) for path in found if path not in outcome.files]
            require(found and not unknown, f"{named(self._provider)} returns {unknown} for {case}, no new file")
            require(not missing, f"{named(self._provider)} does not return {sorted(map(str, missing))[:1]} for {case}")

    def parses(self) -> None:
        """JSON, YAML, TOML, safetensors and Python can be read, by the ends of their names."""
        for case, outcome in self._written():
            for path, content in outcome.files.items():
                if (read := _READERS.get(path.suffix.lower())) is not None:
                    try:
                        read(content)
                    except Exception as error:
                        where = f"{named(self._provider)} writes {path.name} for {case}"
                        raise Failed(f"{where}, which cannot be read: {error}") from error

    def refuses(self) -> None:
        """What it refuses it refuses by an error of LayerLens's, and nothing is left behind."""
        for case in CASES:
            outcome = self._of(case)
            if (error := outcome.error) is not None:
                own = isinstance(error, LayerLensError) and (
                    error.__cause__ is None or isinstance(error.__cause__, LayerLensError)
                )
                require(own, f"{named(self._provider)} on {case}: {error}; raise a PlanError that says what it cannot")
                left = sorted(path.name for path in outcome.files)
                require(not left, f"{named(self._provider)} leaves {left[:1]} though it refuses {case}")

    def is_deterministic(self) -> None:
        """The same plan gives the same files."""
        for case, outcome in self._written():
            require(
                self._again(case).files == outcome.files,
                f"{named(self._provider)} writes other files for {case} a second time",
            )

    def survives(self) -> None:
        """A plan and a profile that were written and read give the same files."""
        for case, outcome in self._written():
            if self._again(case).files != outcome.files:
                continue  # which is another clause's
            read = self._export(case, reread=True)
            require(
                read.files == outcome.files,
                f"{named(self._provider)} writes other files for {case} once its plan is written and read",
            )

    def _written(self) -> Iterator[tuple[str, _Outcome]]:
        """The cases that are exported, in words, each with what came of it."""
        for case in CASES:
            if (outcome := self._of(case)).error is None:
                yield case, outcome

    def _of(self, case: str) -> _Outcome:
        if case not in self._made:
            self._made[case] = self._export(case)
        return self._made[case]

    def _again(self, case: str) -> _Outcome:
        if case not in self._made_again:
            self._made_again[case] = self._export(case, seed=1)
        return self._made_again[case]

    def _export(self, case: str, *, seed: int = 0, reread: bool = False) -> _Outcome:
        """Export a case, and read what was written, which is then removed."""
        name, method, alike = CASES[case]
        with self._loaded() as registry, tempfile.TemporaryDirectory(dir=self._place.name) as run:
            plan, profile = plan_of(tiny_profile(name), method, registry, alike=alike), tiny_profile(name)
            if reread:
                plan.save(run)
                profile.save(run)
                plan, profile = Plan.load(run), Profile.load(run)
            # Keys name the directory in full, so it has to be the same one each time.
            out = Path(self._place.name).resolve() / "out"
            return self._exported(registry, _request(name, plan, profile, out), seed)

    def _exported(self, registry: Registry, request: ExportRequest, seed: int) -> _Outcome:
        returned, error = None, None
        try:
            with seeded(seed):
                returned = registry.load("exporter", self._provider.name)(request)
        except Exception as raised:
            error = raised
        files = {path: path.read_bytes() for path in sorted(request.out.rglob("*")) if path.is_file()}
        shutil.rmtree(request.out, ignore_errors=True)
        return _Outcome(files, returned, error)

    @contextmanager
    def _loaded(self) -> Iterator[Registry]:
        with isolated_registry(self._provider) as registry, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PEFT, which a plugin can do nothing about
            yield registry


def _request(name: str, plan: Plan, profile: Profile, out: Path) -> ExportRequest:
    """What ``layerlens export`` asks for, with an adapter that is made as it makes it."""

    def adapter() -> tuple[Path, ...]:
        from layerlens_core.adaptation.apply import apply
        from layerlens_core.files.atomic import filling

        with seeded(0):
            model = apply(tiny_model(name), plan)
        with filling(out) as staging:
            model.save_pretrained(str(staging))
            names = sorted(path.name for path in staging.iterdir())
        return tuple(out / each for each in names)

    return ExportRequest(
        plan=plan, profile=profile, model=f"somebody/{name}", out=out, adapter=adapter, say=lambda line: None
    )


def _read_yaml(content: bytes) -> None:
    import yaml

    yaml.safe_load(content)


def _read_safetensors(content: bytes) -> None:
    from safetensors.numpy import load

    load(content)


#: By the end of a file's name, what raises where its content is none of that kind.
_READERS: Mapping[str, Callable[[bytes], object]] = {
    ".json": lambda content: json.loads(content),
    ".jsonl": lambda content: [json.loads(line) for line in content.splitlines()],
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".toml": lambda content: tomllib.loads(content.decode()),
    ".py": lambda content: ast.parse(content),
    ".safetensors": _read_safetensors,
}
