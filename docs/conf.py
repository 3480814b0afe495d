"""How the documentation is built: `python -m sphinx -W docs docs/_build/html`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_scripts"))

project = "booking_resilience"
author = "The booking_resilience authors"
project_copyright = "2026, " + author
version = release = version_of("booking-resilience")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "link_types"]
exclude_patterns = ["_build", "_scripts"]
default_role = "code"  # docstrings mark code with single backticks
html_theme = "furo"
html_title = f"booking_resilience {version}"
html_static_path = ["_static"]
html_css_files = ["names.css"]  # long names on narrow screens
html_search_scorer = str(Path(__file__).parent / "_static" / "scorer.js")
pygments_dark_style = "github-dark"  # furo's own underlines what is imported, as if it were a link
napoleon_use_ivar = True  # a field list: the attributes of a value are described with it, not apart from it
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
nitpicky = True  # a type in a signature that leads nowhere is an error
nitpick_ignore_regex = [
    ("py:.*", r"(booking_resilience\..*\.)?(App|T|R|P|Item|Value|Failure)"),  # type variables
    (
        "py:.*",
        r"(aiohttp|opentelemetry)\..*|AppwriteException",
    ),  # other libraries: not known offline
    # Internal: what a `with` or a `for` uses and nobody names, and the roles that a parameter must play.
    ("py:class", r"booking_resilience\..*\.(Attempts|Capture|Deadline|Guard|LimitGuard|MonitorContext|Outage)"),
    ("py:class", r"booking_resilience\.parts\.Part|booking_resilience\.breaker\.core\.(Core|Sharing)"),
    ("py:class", r"booking_resilience\..*\.(Attribution|Evidence|HasContext|Limit|Monitor|Source)"),
    ("py:class", r"booking_resilience\.telemetry\.observed\.Durable"),
]
