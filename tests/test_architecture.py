"""The package is built as designed: one direction, lazy, quiet, in small files."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "braindecode_gcmae"
NAME = PACKAGE.name

# A module imports only what stands above it. A folder counts as the module whose
# file it replaced (losses/ is losses).
ORDER = [
    "warning",
    "montage",
    "alignment",
    "features",
    "graph",
    "masking",
    "momentum",
    "losses",
    "encoders",
    "models",
    "export",
    "streaming",
    "selection",
    "pretraining",
    "callbacks",
    "classifier",
    "datasets",
    "viz",
]

# Costly, or harmful when merely imported (torch_geometric replaces
# torch.index_select): imported where they are used, inside a function.
LAZY = {
    "torch_geometric",
    "moabb",
    "matplotlib",
    "mne.viz",
    "mne_bids",
    "eegdash",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "accelerate",
    "braindecode.models.config",
}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def layer(path):
    """Return the module of DESIGN to which a file belongs."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


EXISTING = [name for name in ORDER if name in {layer(path) for path in SOURCES}]


def file_id(path):
    return path.relative_to(ROOT).as_posix()


every_source = pytest.mark.parametrize("path", SOURCES, ids=file_id)


def dotted_path(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_names(tree, path):
    """Yield every dotted name imported anywhere in a file, also inside functions.

    ``from a import b`` yields ``a.b``: b may be a module or a name of a.
    """
    package = dotted_path(path)
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.args[0].value


def outside_functions(node):
    """Yield the nodes that run at import (the type checker's imports do not)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from outside_functions(child)


def internal_layers(source, path, homes):
    """Return the modules of this package that a source text imports."""
    found = set()
    for name in imported_names(ast.parse(source), path):
        first, *rest = name.split(".")
        if first != NAME or not rest or rest[0].startswith("__"):
            continue
        found.add(homes.get(rest[0], rest[0]))
    return found


def public_homes():
    return importlib.import_module(NAME)._HOME


def above(module):
    return set(ORDER[: ORDER.index(module) + 1])


# ------------------------------------------------------------------- direction
def test_every_file_belongs_to_a_module_of_the_design():
    assert {layer(path) for path in SOURCES} <= {"__init__", *ORDER}


def for_type_checkers(source):
    """What of a module runs, and what only type checkers and editors read."""
    body = ast.parse(source).body
    read = [n for n in body if "if TYPE_CHECKING" in ast.unparse(n)[:16]]
    run = ast.Module([node for node in body if node not in read], [])
    return ast.unparse(run), [part for node in read for part in node.body]


def test_type_checkers_read_the_public_names_where_they_come_from():
    source = (PACKAGE / "__init__.py").read_text("utf-8")
    read = {a.asname: n.module for n in for_type_checkers(source)[1] for a in n.names}
    assert read == public_homes()


@every_source
def test_a_module_imports_only_what_stands_above_it(path):
    module, source = layer(path), path.read_text("utf-8")
    if module == "__init__":
        source = for_type_checkers(source)[0]
    used = internal_layers(source, path, public_homes())
    if module == "__init__":
        assert used <= {"models"}, (
            "the public face registers the models with braindecode, and imports its "
            "other names when they are asked for"
        )
    else:
        assert used - above(module) == set()


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("graph.py", "from .losses import info_nce", {"losses"}),
        ("graph.py", "from . import montage, viz", {"montage", "viz"}),
        ("graph.py", "import braindecode_gcmae.viz as v", {"viz"}),
        ("losses/basic.py", "from ..graph import x", {"graph"}),
        ("losses/basic.py", "from .other import x", {"losses"}),
        ("losses/__init__.py", "from .basic import x", {"losses"}),
        ("graph.py", "def f():\n    from braindecode_gcmae import viz", {"viz"}),
        ("graph.py", "from braindecode_gcmae import SimulatedEEG", {"datasets"}),
        ("graph.py", "import_module('braindecode_gcmae.models')", {"models"}),
        ("graph.py", "from braindecode_gcmae import __version__", set()),
        ("graph.py", "import torch, braindecode.models", set()),
    ],
)
def test_the_import_reader_sees_each_spelling(file, text, expected):
    homes = {"SimulatedEEG": "datasets"}
    assert internal_layers(text, PACKAGE / file, homes) == expected


def files_imported(path, files):
    """Return the files of the package that a file imports, also inside functions."""
    found = set()
    for name in imported_names(ast.parse(path.read_text("utf-8")), path):
        parts = tuple(name.split("."))
        found |= {files[p] for p in (parts, parts[:-1]) if p in files}
    # ``from .a import b``, where b is a name of a, is told by the shorter one.
    return found - {path}


def test_no_files_import_each_other_in_a_circle():
    files = {dotted_path(path): path for path in SOURCES}
    public_face = files.pop((NAME,))  # imports its names when they are asked for
    graph = {p: files_imported(p, files) for p in SOURCES if p != public_face}
    assert sum(map(len, graph.values())) > 300
    TopologicalSorter(graph).prepare()  # raises a CycleError that names them


# ------------------------------------------------------------------ lazy import
def names_at_import(path):
    """Return the dotted names that a file imports while it is being imported."""
    tree = ast.parse(path.read_text("utf-8"))
    statements = [
        node
        for node in outside_functions(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return set(imported_names(ast.Module(statements, []), path))


def behind_a_function(path):
    """Say whether a private file is imported nowhere but inside functions.

    Such a file may subclass what a costly library defines.
    """
    if not path.name.startswith("_") or path.name == "__init__.py":
        return False
    own = ".".join(dotted_path(path))
    names = set().union(*(names_at_import(p) for p in SOURCES if p != path))
    return not any(name == own or name.startswith(f"{own}.") for name in names)


@every_source
def test_costly_libraries_are_not_imported_at_import(path):
    if behind_a_function(path):
        return
    for name in names_at_import(path):
        parents = {name.rsplit(".", n)[0] for n in range(name.count(".") + 1)}
        assert not parents & LAZY, f"{name}: import it inside the function"


def test_importing_the_package_loads_no_costly_library_that_braindecode_does_not():
    listing = (
        "import sys, braindecode.models; before = set(sys.modules); "
        f"import {NAME}; sys.stdout.write(' '.join(set(sys.modules) - before))"
    )
    process = subprocess.run(
        [sys.executable, "-c", listing],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    assert LAZY & set(process.stdout.split()) == set()


# ------------------------------------------------------------------------- a map
def test_the_page_for_contributors_names_what_there_is():
    text = (ROOT / "docs" / "contributing.rst").read_text("utf-8")
    named = set(re.findall(r"``([\w/]+(?:/|\.py|\.md))``", text))
    assert len(named) > 25
    beside = PACKAGE / "models"  # "student.py or teacher.py"
    for name in named:
        assert any((base / name).exists() for base in (PACKAGE, ROOT, beside)), name
    rooms = [
        f for f in (PACKAGE / "callbacks").iterdir() if (f / "__init__.py").exists()
    ]
    assert {f"callbacks/{room.name}/" for room in rooms} <= named
    order = re.search(r"from those before it: (.*?)\.\s", text, re.S)[1]
    assert re.split(r",\s+", order) == ORDER


# ----------------------------------------------------------------------- habits
# The last group is split so that this file does not name a machine's folders.
FORBIDDEN = {
    "prints": r"\bprint\(",
    "left open": r"\b(TODO|FIXME|XXX|NotImplementedError)\b|pragma: no cover",
    "seeds globally": r"(torch|cuda)\.manual_seed\(|random\.seed\(|\bseed_everything\(",
    "names a device": r"\.cuda\(",
    "unsafe loading": r"\bpickle\.loads?\(|weights_only\s*=\s*False|"
    r"allow_pickle\s*=\s*True|joblib\.load\(|torch\.load\((?!.*weights_only=True)",
    "machine path": r"(^|[^\w.])/(work|tmp|farm|root|opt|home)" + "/",
}


@pytest.mark.parametrize("habit", FORBIDDEN)
@every_source
def test_the_package_keeps_its_habits(path, habit):
    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if re.search(FORBIDDEN[habit], line)] == []


@pytest.mark.parametrize(
    ("habit", "line"),
    [
        ("prints", "    print(x)"),
        ("left open", "# TODO: later"),
        ("seeds globally", "torch.manual_seed(0)"),
        ("seeds globally", "np.random.seed(0)"),
        ("names a device", "x = x.cuda()"),
        ("unsafe loading", "torch.load(path)"),
        ("unsafe loading", "pickle.load(file)"),
        ("machine path", "'/tmp" + "/x'"),
    ],
)
def test_the_habit_patterns_find_what_they_forbid(habit, line):
    assert re.search(FORBIDDEN[habit], line)


@every_source
def test_a_file_stays_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 450


@every_source
def test_every_public_function_and_class_says_what_it_is(path):
    tree = ast.parse(path.read_text("utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), "the file has no docstring"
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize("module", EXISTING)
def test_every_module_has_its_tests(module):
    tests = ROOT / "tests"
    assert (tests / f"test_{module}.py").is_file() or (tests / module).is_dir()


# ------------------------------------------------------------------ public face
PUBLIC = {
    "GCMAEStudent": "models",
    "GCMAETeacher": "models",
    "GCMAEPretrainer": "pretraining",
    "GCMAEPretraining": "callbacks",
    "TopologyDistillation": "callbacks",
    "RecordingAlignment": "alignment",
    "SimulatedEEG": "datasets",
    "match_electrodes": "montage",
    "select_electrodes": "selection",
    "plot_electrode_graph": "viz",
    "plot_reconstruction": "viz",
    "plot_density_curve": "viz",
}

# Formulas: positional arguments in order, and keywords that must be there.
FORMULAS = {
    "features.welch_psd": ("x sfreq", "n_per_seg n_overlap window detrend"),
    "graph.scaled_laplacian": ("adjacency", ""),
    "graph.chebyshev_basis": ("laplacian order", ""),
    "graph.topology_pairs": (
        "student_adjacency teacher_adjacency kept",
        "density threshold",
    ),
    "losses.info_nce": ("queries positives negatives", "temperature"),
    "losses.scaled_cosine_error": ("reconstruction target", "gamma"),
    "losses.logit_distillation_loss": (
        "student_logits teacher_logits",
        "temperature",
    ),
    "losses.topology_distillation_loss": (
        "student_nodes teacher_nodes positive negative kept",
        "kernel temperature eps form",
    ),
    "losses.reconstruction_loss": None,
    "losses.local_structure_loss": None,
    "losses.graph_contrastive_loss": None,
}


@pytest.mark.parametrize(
    "name", [name for name, home in PUBLIC.items() if home in EXISTING]
)
def test_a_name_of_the_design_comes_from_the_package_itself(name):
    package = importlib.import_module(NAME)
    public = getattr(package, name)
    assert inspect.isclass(public) or inspect.isfunction(public)
    assert public.__name__ == name
    assert public.__module__.split(".")[:2] == [NAME, PUBLIC[name]]
    assert name in package.__all__ and name in dir(package)


def test_the_public_face_holds_no_logic():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert classes == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(NAME).no_such_name


@pytest.mark.parametrize(
    "formula", [name for name in FORMULAS if name.split(".")[0] in EXISTING]
)
def test_a_formula_has_the_spelling_of_the_design(formula):
    module, name = formula.split(".")
    function = getattr(importlib.import_module(f"{NAME}.{module}"), name)
    assert inspect.isfunction(function)
    if FORMULAS[formula] is None:
        return
    positional, keywords = (text.split() for text in FORMULAS[formula])
    parameters = inspect.signature(function).parameters.values()
    assert [
        p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD
    ] == positional
    assert set(keywords) <= {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}


def test_every_public_name_has_its_page_in_the_documentation():
    listed = (ROOT / "docs" / "api.rst").read_text("utf-8").split()
    names = set(importlib.import_module(NAME).__all__) - {"__version__"}
    assert names - set(listed) == set()
