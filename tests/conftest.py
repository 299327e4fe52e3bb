import os

# scikit-learn's check of array API inputs runs only with this, and SciPy reads it
# once, when it is imported: so it comes before every other import.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Pictures are drawn into memory: no test opens a window, and no user's file is changed.
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis

# The same examples in every run, and no deadline: the first call compiles.
hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50
)
# For a longer search: pytest --hypothesis-profile=explore
hypothesis.settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True
)
hypothesis.settings.load_profile("ci")

# Code to be checked, not run.
collect_ignore = ["typing/usage.py"]
