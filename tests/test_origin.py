"""What counts as an installed package, wherever it is installed."""

import importlib

import pytest

from skoptax._origin import is_installed


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        # pip install --user, or the base of a virtual environment; Debian
        ("lib/python3.11/site-packages", True),
        ("lib/python3/dist-packages", True),
        ("project/src", False),
        ("my-site-packages", False),
    ],
)
def test_a_module_outside_of_the_environment(
    tmp_path, monkeypatch, request, folder, expected
):
    name = f"module_{request.node.callspec.indices['folder']}_of_test_origin"
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    importlib.import_module(name)
    assert is_installed(name) is expected


@pytest.mark.parametrize("name", ["jax.numpy", "functools", "math", "skoptax._spec"])
def test_libraries_are_installed(name):
    importlib.import_module(name)
    assert is_installed(name)


def test_this_file_is_not():
    assert not is_installed(__name__)
    assert not is_installed("__main__")
    assert not is_installed(None)
