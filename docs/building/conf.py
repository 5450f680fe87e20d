"""The documentation as static pages, made by Sphinx; `make docs` builds them into build/site with warnings as errors.

The root of the repository is the root of the site, so that a link that GitHub follows is one that the site follows.
Pages ask no host for anything: formulas are MathML, fonts are the reader's own, and the search index lies beside them.
"""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

project = "LayerLens"
author = "The LayerLens authors"
version = release = version_of("layerlens-core")
project_copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "docstrings",
    "formulas",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "tests/benchmarks/study/README.md"]
exclude_patterns = [".*", "build", "dist", "runs", "shared", "layerlens_core", "native", "plugins", "tests/[!b]*"]

# Markdown as GitHub reads it, with formulas between dollar signs.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
suppress_warnings = ["myst.header"]  # a page of a guide may begin where GitHub shows it, at any level

# The reference. `Name` in a docstring leads to the name where it is documented.
default_role = "py:obj"
add_module_names = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# What a terminal shows is no program: it is not coloured, and its prompt is not copied.
smartquotes = False  # or the two dashes of an option would be one
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "github-dark-colorblind"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "LayerLens"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "begin.html"}
templates_path = ["templates"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
