"""What the project's files promise to installers, type checkers and newcomers."""

import configparser
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import skoptax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(skoptax.__file__).parent


@pytest.fixture
def project():
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


@pytest.fixture
def setup_cfg():
    parser = configparser.ConfigParser()
    assert parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lower_bound(requirement):
    """Return the version of a requirement that is a lower bound and no more."""
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", f"{requirement} is more than a lower bound"
    return specifier.version


def test_version_is_that_of_the_metadata():
    assert skoptax.__version__ == importlib.metadata.version("skoptax")


def test_licence_is_spdx(project):
    metadata = importlib.metadata.metadata("skoptax")
    assert project["license"] == metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
    assert not [line for line in project["classifiers"] if "License" in line]


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()


def test_requirements_have_no_upper_caps(project):
    assert re.fullmatch(r">=3\.\d+", project["requires-python"])
    extras = project["optional-dependencies"]
    for lines in [project["dependencies"], *extras.values()]:
        if lines is extras["lint"]:  # linters move on purpose
            continue
        for requirement in map(Requirement, lines):
            if requirement.name != "skoptax":
                lower_bound(requirement)


def test_constraints_are_the_lower_bounds(project):
    text = (ROOT / "tests" / "constraints-oldest.txt").read_text()
    constraints = dict(re.findall(r"^([\w-]+)==(\S+)$", text, flags=re.MULTILINE))
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["plots"]]
    lines += [*extras["progress"], *extras["dask"]]
    for requirement in map(Requirement, lines):
        assert constraints[requirement.name] == lower_bound(requirement)


def test_setup_cfg_holds_the_import_contract_only(setup_cfg):
    assert "importlinter:contract:layers" in setup_cfg.sections()
    assert {name.split(":")[0] for name in setup_cfg.sections()} == {"importlinter"}


def test_every_module_has_a_layer(setup_cfg):
    layers = setup_cfg["importlinter:contract:layers"]["layers"]
    named = set(re.findall(r"\w+", layers))
    existing = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    homeless = existing - named - {"__init__"}
    assert not homeless, f"give {sorted(homeless)} a layer in setup.cfg"
