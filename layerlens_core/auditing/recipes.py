"""The recipe and measured gains, beside the comparison that they come from."""

from functools import partial
from pathlib import Path
from typing import Any

from layerlens_core.auditing.reading import read
from layerlens_core.auditing.sheet import Sheet
from layerlens_core.comparison.compared import COMPARED, SCHEMA, VERSION, Comparison
from layerlens_core.comparison.jobs.store import COMPARISON
from layerlens_core.comparison.recipe import recipe_of
from layerlens_core.errors import brief
from layerlens_core.files import documents
from layerlens_core.files.run import GAINS, PLAN, RECIPE
from layerlens_core.values.gains import Gains
from layerlens_core.values.plan import Plan
from layerlens_core.values.recipe import Recipe

#: Where a comparison lies in a run, for people.
FOUND = f"{COMPARISON}/{COMPARED}"


def check_recipe(run: Path, plan: Plan | None, sheet: Sheet) -> dict[str, str]:
    """Compare recipe and gains with what the comparison says, where it lies there.

    run: the run's directory.
    plan: None where it could not be read.
    sheet: for what is found.

    Returns, by file, the digest by which it names the profile.
    """
    recipe = read(run, RECIPE, partial(Recipe.read, broken_too=True), sheet)
    gains = read(run, GAINS, partial(Gains.load, broken_too=True), sheet)
    named = {name: found.profile for name, found in ((RECIPE, recipe), (GAINS, gains)) if found is not None}
    if not named:
        return named
    for name in named:
        sheet.tick(name, "its own digest")
        if not documents.is_sealed(run / name):
            sheet.find(name, "sha256", None, None, "it is not the digest of the file's content", "seal")
    compared = _compared(run, sheet)
    if recipe is not None and plan is not None:
        sheet.tick(RECIPE, "digests of other files")
        if recipe.plan != plan.digest:
            sheet.find(RECIPE, "plan", plan.digest, recipe.plan, f"the SHA-256 of {PLAN}", "digest")
        if compared is not None:
            _check_recipe(recipe, plan, *compared, sheet)
    if gains is not None and compared is not None and compared[0].gains is not None:
        one, other = (_without(("profile",), each) for each in (compared[0].gains, gains))
        sheet.compare(GAINS, "curves", one, other, why=f"{FOUND} says so")
    return named


def _check_recipe(recipe: Recipe, plan: Plan, comparison: Comparison, digest: str, sheet: Sheet) -> None:
    try:
        made = recipe_of(comparison, plan)
    except (ArithmeticError, ValueError, LookupError, TypeError) as error:
        sheet.find(FOUND, "", None, None, f"no recipe can be made of it: {brief(error)}", "derivation")
        return
    expected, found = (_without(("plan", "profile", "comparison"), each) for each in (made, recipe))
    sheet.compare(RECIPE, "what the comparison found", expected, found, why=f"it follows from {FOUND} and the plan")
    sheet.tick(RECIPE, "digests of other files")
    if recipe.comparison != digest:
        sheet.find(RECIPE, "comparison", digest, recipe.comparison, f"the SHA-256 of {FOUND}", "digest")


def _without(names: tuple[str, ...], record: object) -> dict[str, Any]:
    return {name: value for name, value in documents.plain(record).items() if name not in names}


def _compared(run: Path, sheet: Sheet) -> tuple[Comparison, str] | None:
    if not (run / COMPARISON / COMPARED).exists():
        sheet.skip(f"{RECIPE} and {GAINS}", f"{FOUND}, which they come from, is not there")
        return None
    sheet.skip(f"{FOUND}: losses, rates and verdict", "they come from training, which takes the model")

    def load(run: Path) -> tuple[Comparison, str]:
        return documents.read_named(run / COMPARISON / COMPARED, Comparison, schema=SCHEMA, version=VERSION)

    return read(run, FOUND, load, sheet)
