"""The settings of Sphinx: `sphinx-build -W -n docs docs/_build`."""

import fastmlp

project = "fastmlp"
author = "The fastmlp authors"
copyright = "The fastmlp authors"
version = release = fastmlp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",                  # MyST, and pages whose code runs
]
exclude_patterns = ["_build", "jupyter_execute"]
nb_execution_mode = "force"     # of the course, always: nothing is cached
nb_execution_raise_on_error = True
nb_execution_timeout = 120      # seconds, for a cell
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code of this picture", "Hide the code"
templates_path = ["_templates"]
nitpicky = True
# Properties among attributes.
nitpick_ignore = [("py:obj", "coefs_"), ("py:obj", "intercepts_"), ("py:obj", "model_")]
smartquotes = False             # a prime, as in f'(z), is no quotation mark

# Docstrings: names in single backquotes become links where there is something to link to.
default_role = "autolink"
add_module_names = False
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"      # the docstrings name dtypes and shapes, which annotations cannot
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "fastmlp"
html_static_path = ["_static"]
html_css_files = ["fastmlp.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("benchmarks", "kernels", "extending", "glossary")}    # no pages below
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "icon_links": [
        {"name": "Source", "url": "https://github.com/fastmlp/fastmlp", "icon": "fa-brands fa-github"},
    ],
}


def skip_routing(app, what, name, thing, skip, options):
    """scikit-learn makes set_fit_request and its kin for every estimator, and documents them."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    app.connect("autodoc-skip-member", skip_routing)
