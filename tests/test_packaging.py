"""What is installed: the measured bounds, and a wheel that holds only the package."""

import ast
import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "braindecode_gcmae"

# Measured: what lies outside either does not install or does not import.
BOUNDS = {
    "braindecode": ">=1.8,<2",
    "torch": ">=2.4,<2.12",
    "skorch": ">=1.4",
    "mne": ">=1.11,<1.14",
    "scikit-learn": ">=1.6",
    "numpy": ">=2",
    "scipy": ">=1.13",
    "torch-geometric": ">=2.6",
    "huggingface-hub": ">=0.30",
    "safetensors": "",
}

EXTRAS = {
    "moabb": {"moabb"},
    "export": {"onnx", "onnxscript", "onnxruntime"},
    "distributed": {"accelerate"},
    "hbn": {"eegdash"},
    "sweep": {"dask", "distributed"},
    "testing": {"pytest", "pytest-cov", "hypothesis"},
    "docs": {"sphinx", "pydata-sphinx-theme", "sphinx-gallery", "numpydoc"},
    "all": set(),
}

# Build with these absent: the version must be read from the text of __init__.py.
BUILD = """
import sys
for name in ("torch", "braindecode", "mne", "skorch", "numpy"):
    sys.modules[name] = None
from setuptools import build_meta
output = sys.argv[1]  # each build puts arguments of its own into sys.argv
build_meta.build_wheel(output)
build_meta.build_sdist(output)
"""


def requirements(text):
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(r.name): r for r in found if not r.extras}


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser(comment_prefixes=("#",))
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def base(setup):
    return requirements(setup["options"]["install_requires"])


@pytest.fixture(scope="module")
def extras(setup):
    return {
        name: requirements(text)
        for name, text in setup["options.extras_require"].items()
    }


def package_files():
    """Return what belongs into the wheel, as paths relative to the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build wheel and sdist from a copy of the repository, without network."""
    copy = tmp_path_factory.mktemp("source") / "repository"
    heavy = (".*", "results", "outputs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*heavy, "_build"))
    output = tmp_path_factory.mktemp("built")
    build = subprocess.run(
        [sys.executable, "-c", BUILD, str(output)],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return output


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


# ------------------------------------------------------------------ dependencies
def test_the_measured_bounds_are_declared(base):
    declared = {name: r.specifier for name, r in base.items()}
    for name, bound in BOUNDS.items():
        assert declared[name] == Requirement(f"{name}{bound}").specifier, name


def test_the_torch_bound_says_why():
    lines = (ROOT / "setup.cfg").read_text("utf-8").splitlines()
    row = next(n for n, line in enumerate(lines) if "torch>=2.4" in line)
    reason = " ".join(lines[row - 6 : row])
    assert "torchaudio" in reason and "CUDA" in reason


def test_the_environment_lies_within_the_bounds(base):
    for name, requirement in base.items():
        version = importlib.metadata.version(name)
        assert requirement.specifier.contains(version), f"{name} {version}"


def test_the_extras_hold_what_they_promise(extras):
    for name, content in EXTRAS.items():
        assert content <= set(extras[name]), name
    assert str(extras["moabb"]["moabb"].specifier) == ">=1.7"
    assert str(extras["testing"]["pytest"].specifier) == "<9.1"


def test_the_extra_all_names_every_other_extra(setup):
    table = setup["options.extras_require"]
    (requirement,) = (Requirement(line) for line in table["all"].split())
    assert requirement.extras == set(table) - {"all"}


IMPORT_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml"}


def third_party(tree):
    """Yield the distributions that a file's import statements need."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in {n.split(".")[0] for n in names}:
            if name not in sys.stdlib_module_names and name != PACKAGE.name:
                yield canonicalize_name(IMPORT_NAMES.get(name, name))


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_what_a_module_imports_is_declared(path, base, extras):
    tree = ast.parse(path.read_text("utf-8"))
    # braindecode, mne and skorch bring these along
    brought = {"pandas", "joblib", "tqdm", "matplotlib", "mne-bids"}
    used = set(third_party(tree))
    optional = {name for extra in ("moabb", "export") for name in extras[extra]}
    optional |= {name for extra in ("distributed", "hbn") for name in extras[extra]}
    assert used - set(base) - optional - brought == set()


# ------------------------------------------------------------------------- wheel
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = [name for name in wheel.namelist() if not name.endswith("/")]
    package = {name for name in names if ".dist-info/" not in name}
    assert package == package_files()


def test_the_wheel_holds_no_executable_or_pickled_file(wheel):
    allowed = {".py", ".typed", ".json", ".safetensors", ".csv", ".tsv", ".txt", ".md"}
    files = [n for n in wheel.namelist() if ".dist-info/" not in n]
    assert {Path(name).suffix or Path(name).name for name in files} <= allowed
    assert sum(wheel.getinfo(name).file_size for name in files) < 30e6


def test_the_wheel_carries_its_licence_and_type_marker(wheel):
    names = wheel.namelist()
    (licence,) = (n for n in names if re.search(r"\.dist-info/(.*/)?LICENSE$", n))
    assert wheel.read(licence).decode() == (ROOT / "LICENSE").read_text("utf-8")
    assert "braindecode_gcmae/py.typed" in names


def test_the_wheel_declares_what_the_configuration_says(metadata, base):
    declared = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    plain = {canonicalize_name(r.name): r for r in declared if r.marker is None}
    assert {n: r.specifier for n, r in plain.items()} == {
        n: r.specifier for n, r in base.items()
    }
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(EXTRAS) <= set(metadata.get_all("Provides-Extra"))


# ------------------------------------------------------------------------- sdist
def test_the_sdist_holds_the_package_and_what_builds_it(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = [Path(m.name) for m in archive.getmembers() if m.isfile()]
    names = {Path(*file.parts[1:]).as_posix() for file in files}
    generated = {n for n in names if ".egg-info/" in n} | {"PKG-INFO"}
    build = {"pyproject.toml", "setup.cfg", "MANIFEST.in"}
    # no Makefile: its commands need tests, benchmarks and docs, which stay behind
    reading = {"README.md", "LICENSE", "CITATION.cff"}
    assert names - generated == package_files() | build | reading


def test_a_checkout_has_the_same_bytes_on_every_system():
    # Windows would turn the licence, the tables and the configurations into CRLF
    attributes = (ROOT / ".gitattributes").read_text("utf-8").splitlines()
    assert "* text=auto eol=lf" in attributes


# ---------------------------------------------------------------------- one truth
def test_the_version_is_a_literal_and_the_same_everywhere(metadata):
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (version,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert metadata["Version"] == version == citation["version"]
    assert citation["license"] == metadata["License"] == "BSD-3-Clause"


def test_the_build_needs_only_a_setuptools_that_reads_the_configuration():
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    assert project["build-system"]["requires"] == ["setuptools>=64"]
    assert "project" not in project, "the metadata lives in setup.cfg alone"


def test_the_tests_extra_brings_what_is_tested(setup):
    table = setup["options.extras_require"]
    (requirement,) = (Requirement(line) for line in table["tests"].split())
    tested = {"moabb", "export", "distributed", "hbn", "sweep"}
    assert requirement.extras == tested | {"testing"}
    # With the lowest releases all but "export", and named once.
    (lowest,) = re.findall(r'extras = "(.*)"', (ROOT / "noxfile.py").read_text("utf-8"))
    assert set(lowest.split(",")) == tested - {"export"} | {"testing"}


def test_the_lowest_releases_are_those_of_the_bounds(base, extras):
    pinned = requirements((ROOT / "tests" / "lowest.txt").read_text("utf-8"))
    lowest = {
        name: spec.version
        for name, requirement in {**base, **extras["moabb"]}.items()
        for spec in requirement.specifier
        if spec.operator == ">="
    }
    assert pinned.keys() == {*lowest, "torchaudio"}
    for name, version in lowest.items():
        (pin,) = pinned[name].specifier
        assert Version(pin.version) == Version(version), name


def test_the_workflow_covers_every_promised_system_and_python(setup):
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")
    matrix = yaml.safe_load(workflow)["jobs"]["tests"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {
        "ubuntu",
        "macos",
        "windows",
    }
    classifiers = re.findall(r":: (3\.\d+)", setup["metadata"]["classifiers"])
    assert matrix["python-version"] == classifiers == ["3.11", "3.12", "3.13"]
