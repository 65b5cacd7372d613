"""The documentation site: python -m sphinx -W --keep-going -n docs docs/_build/html, with the extra docs.

Nothing is fetched, neither to build it nor to read it: no inventories of other projects, formulas as MathML, fonts of
the system, and a search that works from a file.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The kernels that run the tutorials look at this checkout too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path[:2], os.environ.get("PYTHONPATH")]))

import attnxr  # noqa: E402 (of this checkout)

project = "attnxr"
author = "The attnxr developers"
release = version = attnxr.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "mathml", "from_code"]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*")]  # those of docstrings: see default_role

# Docstrings: `name` is a link where it is the name of something public, else (a parameter, say) it stands as it is.
default_role = "autolink"
autosummary_generate = False
autodoc_typehints = "none"  # numpydoc's sections say the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 4
myst_update_mathjax = False

nb_execution_mode = "force"
nb_execution_cache_path = str(HERE / "_build" / "jupyter_cache")
nb_execution_excludepatterns = ["tutorials/notebooks/*"]  # as committed: tests/test_examples.py runs them again
nb_execution_timeout = 200
nb_execution_raise_on_error = True
nb_output_stderr = "warn"
nb_merge_streams = True

html_theme = "furo"
html_title = f"attnxr {release}"
html_static_path = ["_static"]
html_show_search_summary = False  # it is fetched, which a page from a file may not
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
