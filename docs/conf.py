"""Sphinx configuration.  Build with ``tox -e build_docs``."""

import sys
from pathlib import Path

from crattn_stage import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "crattn-stage"
author = "the CRAttn developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "numpydoc",
    "myst_nb",
    "sphinx_click",
    "sphinx_design",
    "generated",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "generated"]
default_role = "py:obj"

html_theme = "pydata_sphinx_theme"
html_title = f"crattn-stage {version}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_theme_options = {
    "logo": {"text": "crattn-stage"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}
# Pages of one part, such as the tutorial, have nothing to list beside them.
html_sidebars = {"tutorial": [], "gallery": []}
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence"]
# The tutorial is run whenever the manual is built.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autosummary_generate = True
# An extra, which the manual is built without.
autodoc_mock_imports = ["banzai"]
autodoc_member_order = "bysource"
# torch's own docstrings are torch's.
autodoc_inherit_docstrings = False

numpydoc_show_class_members = False
# No docstring; parameters that are missing, unknown, or in the wrong order.
# Not PR03: parameters that are as for another function stand together, in front.
numpydoc_validation_checks = {"GL08", "PR01", "PR02"}
numpydoc_validation_exclude = {
    # Most classes are dataclasses, whose fields are described as attributes.
    r"\.[A-Z]\w*$",
    # Columns are described where they are declared.
    r"calibration_dbs\.tables\.",
    # Rules, old and new, are called in one way, which `Rule` and `NightRule` describe.
    r"quality\.(night_)?rules\.(?!((night_)?rule|verdict|oddities)$)",
}
