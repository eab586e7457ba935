"""The site: `make docs`, or `sphinx-build -W docs docs/_build`."""

import tomllib
from pathlib import Path

_project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]

project = "ampstore"
author = copyright = "The ampstore developers"
version = release = _project["version"]

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_click"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ampstore {release}"
html_static_path = ["pictures"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # NumPy docstrings say them
numpydoc_show_class_members = False
numpydoc_validation_checks = set()
