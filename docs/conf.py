"""Sphinx configuration; generate.py makes the pages of options, of estimators and of certificates from the code."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

project = "discrete-latent"
author = "The discrete-latent maintainers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "generate",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "discrete-latent"
html_show_copyright = False
exclude_patterns = ["_build", "generated/overview.md"]
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_use_ivar = True
