"""Files fit into the head and functions on a screen; folders read as a table of contents."""

import ast
import functools
import statistics
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Where the program lies, and where what tests it lies.
SOURCES = ("layerlens_core", "native", "plugins/layerlens_builtin", "plugins/layerlens-plugin-costbenefit/src")
TESTS = ("tests", "plugins/layerlens-plugin-costbenefit/tests")

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 70, 8
#: Functions that may take more parameters, and why. Five at most.
EXCEPTIONS = {
    "layerlens_core/profiling/profile.py:profile": "the library's front door, with a keyword for each setting",
    "layerlens_core/allocation/allocate.py:allocate": "likewise",
    "layerlens_core/profiling/gradients/triton_kernels.py:sums_kernel": "a Triton kernel takes pointers and shapes",
}


def modules(*folders):
    """Python files below folders of the checkout, by their paths in it."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts)


def lines(module):
    return len((ROOT / module).read_text(encoding="utf-8").splitlines())


@functools.cache
def functions(module):
    """Every function of a module, nested ones too."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function):
    """How many a caller has to know: without ``self`` and ``cls``, and without constants that Triton compiles in."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    counted = [
        each
        for each in named
        if each.arg not in ("self", "cls") and not (each.annotation and ast.unparse(each.annotation) == "tl.constexpr")
    ]
    return len(counted) + (given.vararg is not None) + (given.kwarg is not None)


def too_many_parameters(module):
    return {f"{module}:{each.name}" for each in functions(module) if parameters(each) > PARAMETERS}


@pytest.mark.parametrize("module", modules(*SOURCES, *TESTS))
def test_a_module_and_its_functions_are_small(module):
    assert lines(module) <= FILE_LINES
    long = {each.name: length for each in functions(module) if (length := _length(each)) > FUNCTION_LINES}
    assert long == {}
    assert too_many_parameters(module) - set(EXCEPTIONS) == set()


def _length(function):
    """Lines of a function, from ``def`` to its last."""
    return function.end_lineno - function.lineno + 1


def test_exceptions_are_few_and_needed():
    assert len(EXCEPTIONS) <= 5
    assert {name for module in modules(*SOURCES, *TESTS) for name in too_many_parameters(module)} >= set(EXCEPTIONS)


def test_folders_of_the_source_hold_fifteen_modules_at_most():
    counts = Counter(str(Path(module).parent) for module in modules(*SOURCES))
    assert {folder: count for folder, count in counts.items() if count > 15} == {}


def test_few_modules_lie_at_the_top_of_the_core():
    top = [module for module in modules("layerlens_core") if Path(module).parent == Path("layerlens_core")]
    assert len(top) <= 5, top


def test_most_modules_of_the_source_are_short_and_none_is_long():
    length = {module: lines(module) for module in modules(*SOURCES)}
    assert statistics.median(length.values()) <= 130
    assert {module: count for module, count in length.items() if count > 350} == {}


def test_parameters_are_counted_as_the_rule_says():
    source = "class A:\n def f(self, a, /, b, *c, d, **e): pass\ndef g(x, B: tl.constexpr): pass"
    counts = {each.name: parameters(each) for each in ast.walk(ast.parse(source)) if isinstance(each, ast.FunctionDef)}
    assert counts == {"f": 5, "g": 1}
