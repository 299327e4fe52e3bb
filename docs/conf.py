"""Configuration of the documentation: ``python -m sphinx -W -b html docs FOLDER``."""

import sys
from pathlib import Path

import skoptax

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))

from public import class_pages  # noqa: E402 (found by the line above)

project = "skoptax"
author = "The skoptax developers"
copyright = author
version = release = skoptax.__version__

extensions = [
    "gallery",
    "mathml",
    "myst_parser",
    "names",
    "numpydoc",
    "repository",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_extensions", "_templates"]

# Markdown: what is rendered where the repository is shown is rendered here.
myst_enable_extensions = ["dollarmath", "tasklist"]
myst_heading_anchors = 4

# The reference -------------------------------------------------------------------
autodoc_typehints = "none"  # numpydoc's sections say the types
autosummary_context = {"class_pages": class_pages()}
autosummary_ignore_module_all = False
numpydoc_show_class_members = False  # the template of a class does
toc_object_entries_show_parents = "hide"

# The gallery ---------------------------------------------------------------------
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "minigallery_sort_order": "gallery.as_listed",
    "download_all_examples": False,  # gallery.py does, with the data
    "backreferences_dir": "gallery/backreferences",
    # The other files are for the command line, or hold what examples share.
    "ignore_pattern": r"(^|[\\/])(?!plot_)[^\\/]*$",
    "doc_module": ("skoptax",),
    "reference_url": {"skoptax": None},  # names in the code lead to their pages here
    "prefer_full_module": {r"skoptax\."},
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "ignore_repr_types": r"matplotlib|skoptax\.plots",  # their pictures say more
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,  # a page that loads scripts from elsewhere
}

# The pages -----------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"skoptax {version}"
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_sidebars = {"index": [], "changelog": []}
html_theme_options = {
    "logo": {"text": "skoptax"},
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
}
