"""Sphinx configuration.  Build with ``tox -e build_docs``."""

from crattn_stage import __version__

project = "crattn-stage"
author = "the CRAttn developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"

html_theme = "alabaster"
html_theme_options = {
    "description": "Cosmic-ray masks for CCD frames",
    "page_width": "1080px",
    "sidebar_width": "240px",
    "fixed_sidebar": True,
}
html_copy_source = False

autosummary_generate = True
# An extra, which the manual is built without.
autodoc_mock_imports = ["banzai"]
autodoc_member_order = "bysource"
# torch's own docstrings are torch's.
autodoc_inherit_docstrings = False

numpydoc_show_class_members = False
# No docstring; parameters that are missing, unknown, or in the wrong order.
numpydoc_validation_checks = {"GL08", "PR01", "PR02", "PR03"}
numpydoc_validation_exclude = {
    # Dataclasses; their fields are described as attributes.
    r"\.(Amplifier|Section|Extension|Marks|Instrument|MaskConvention|ModelCard)$",
    r"\.(Outcome|Summary|Detection|RuntimeContext)$",
    r"\.(Engine|FileCheck|Job|Judged|NightReport|Record|FrameInfo|Step)$",
    # Constructors of BANZAI's.
    r"\.(DECamFrame|DECamFrameFactory)$",
}
