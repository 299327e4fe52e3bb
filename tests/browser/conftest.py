import shutil
from importlib.util import find_spec

import pytest

from tools.check_site import BROWSERS


@pytest.fixture(scope="session")
def needs_chromium():
    """Skip what cannot run here, and say why."""
    if find_spec("playwright") is None:
        pytest.skip("Playwright is not installed: pip install -e '.[browser]'")
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("Chromium is not installed")
