"""The versions that are declared: setup.cfg, and the constraints that tox installs it by."""

import re
from configparser import ConfigParser

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def requirements(text):
    """Return the requirements in lines of a file or of an option, without comments."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def versions(found, operator):
    """Return the versions that requirements name by an operator; each has one and no other."""
    result = {}
    for requirement in found:
        (specifier,) = requirement.specifier
        assert specifier.operator == operator, f"{requirement} should be {operator} a version"
        version = Version(specifier.version)
        assert result.setdefault(canonicalize_name(requirement.name), version) == version, f"{requirement} is not alone"
    return result


def declared():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"].values()
    return [r for text in (config["options"]["install_requires"], *extras) for r in requirements(text)]


def pinned(name):
    return versions(requirements((ROOT / name).read_text()), "==")


def test_oldest_constraints_are_the_declared_minima():
    oldest, others = (ROOT / "constraints-oldest.txt").read_text().split("# ...")
    assert not versions(requirements(oldest), "==").keys() & versions(requirements(f"# {others}"), "==").keys()
    assert versions(declared(), ">=") == versions(requirements(oldest), "==")


def test_what_is_declared_has_a_tested_version():
    tested = pinned("constraints.txt")
    for name, minimum in versions(declared(), ">=").items():
        assert tested[name] >= minimum, name


def test_commits_are_checked_by_the_ruff_of_tox():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    (revision,) = re.findall(r"ruff-pre-commit\n\s+rev: v(\S+)", text)
    assert Version(revision) == pinned("constraints.txt")["ruff"]
