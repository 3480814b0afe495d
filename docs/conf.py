"""How the documentation is built: `python -m sphinx -W docs docs/_build/html`."""

from importlib.metadata import version as version_of

project = "booking_resilience"
author = "The booking_resilience authors"
project_copyright = "2026, " + author
version = release = version_of("booking-resilience")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_scripts"]
default_role = "code"  # docstrings mark code with single backticks
html_theme = "furo"
html_title = f"booking_resilience {version}"
html_static_path = ["_static"]
html_css_files = ["names.css"]  # long names on narrow screens
napoleon_use_ivar = True  # a field list: the attributes of a value are described with it, not apart from it
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
nitpicky = False
