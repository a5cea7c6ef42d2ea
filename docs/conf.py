"""Configuration of the documentation, built by ``make docs``."""

import inspect
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

# before braindecode is imported: models inherit the six signal parameters
os.environ.setdefault("DOCSTRING_INHERITANCE_ENABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MOABB_DOWNLOAD_PROVIDER", "upstream")

from sphinx.util.inspect import stringify_signature  # noqa: E402

from braindecode_gcmae import __version__  # noqa: E402

project = "braindecode_gcmae"
author = "The braindecode_gcmae developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "scores",
]

exclude_patterns = ["_build"]
# the gallery writes a file beside each example that Sphinx would take for a page
exclude_patterns += ["auto_examples/*.ipynb", "auto_examples/*.py"]
nitpicky = False

templates_path = ["_templates"]
autosummary_generate = True
autodoc_default_options = {"show-inheritance": True}
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "braindecode_gcmae"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 7,
}

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"[\\/]plot_",
    "doc_module": ("braindecode_gcmae",),
    "backreferences_dir": "generated/backreferences",
    "within_subsection_order": "FileNameSortKey",
    "show_signature": False,
    "download_all_examples": False,
}

INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "sklearn": "https://scikit-learn.org/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "mne": "https://mne.tools/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "braindecode": "https://braindecode.org/stable/",
    "moabb": "https://moabb.neurotechx.com/docs/",
}


def reachable(address):
    """Say whether an inventory can be read: the build must also pass offline."""
    request = Request(f"{address}objects.inv", method="HEAD")
    try:
        with urlopen(request, timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError, ValueError):
        return False


with ThreadPoolExecutor(len(INVENTORIES)) as pool:
    answers = list(pool.map(reachable, INVENTORIES.values()))
intersphinx_mapping = {
    name: (address, None)
    for (name, address), found in zip(INVENTORIES.items(), answers, strict=True)
    if found
}
intersphinx_timeout = 10


def show_arguments_of_models(app, what, name, obj, options, signature, returned):
    """Autodoc finds the Hub's ``__new__(*args, **kwargs)`` before ``__init__``."""
    if what == "class" and signature == "(*args, **kwargs)":
        own = inspect.signature(obj)
        return stringify_signature(own, show_annotation=False), returned
    return None


def setup(app):
    """Connect to Sphinx."""
    app.connect("autodoc-process-signature", show_arguments_of_models)
