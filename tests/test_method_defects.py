"""What goes wrong in the published code does not go wrong here.

``docs/defects.csv`` lists its defects (METHOD B), what stands in the place of each, and
the tests that hold it. Most of them live with the part they are about; here is the
rest, and the proof that the list is complete and names tests that exist.
"""

import ast
import csv
import gc
import importlib
import pkgutil
import re
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny import joint, student, teacher, windows

import braindecode_gcmae
from benchmarks import tables
from braindecode_gcmae import GCMAEStudent, GCMAETeacher

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(
        braindecode_gcmae.__path__, f"{braindecode_gcmae.__name__}."
    )
)


def listed():
    with open(ROOT / "docs" / "defects.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names_of_tests():
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        names |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    return {name for name in names if name.startswith("test_")}


def test_every_defect_has_tests_or_a_reason_why_it_cannot_recur():
    rows, known = listed(), names_of_tests()
    assert [int(row["entry"]) for row in rows] == list(range(1, 38))
    for row in rows:
        tests = [name.strip() for name in row["tests"].split(";") if name.strip()]
        assert tests or row["what stands in its place"].startswith("Cannot recur: ")
        assert set(tests) <= known, row["entry"]


# ------------------------------------------------------------------- B-1, B-2, B-3
@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    assert importlib.import_module(name).__name__ == name


@pytest.mark.parametrize(("model", "depth"), [(GCMAEStudent, 4), (GCMAETeacher, 8)])
def test_paper_presets_have_the_papers_depth(model, depth):
    names = "C3 Cz C4 Pz".split()
    net = model.paper(n_outputs=2, n_times=640, sfreq=160, ch_names=names)
    stack = next(m for m in net.modules() if isinstance(m, torch.nn.ModuleList))
    assert len(stack) == depth
    assert net(torch.randn(2, 4, 640)).shape == (2, 2)


@pytest.mark.parametrize("path", sorted((ROOT / "braindecode_gcmae").rglob("*.py")))
def test_no_source_names_a_device_or_a_folder(path):
    # a string that is a device with a number, or a path from the root
    absolute = re.compile(r"^(cuda:\d+|/[\w.-]+/[\w./-]+|[A-Z]:\\.*)$")
    tree = ast.parse(path.read_text("utf-8"))
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    assert [t for t in texts if isinstance(t, str) and absolute.match(t)] == []


# --------------------------------------------------------------------- B-11, B-14
def batch(n=6):
    return torch.from_numpy(windows(n)), torch.arange(n) + 10, torch.arange(n)


def terms(**arguments):
    """Losses of a batch, with other people's keys in the queue."""
    net = joint(**arguments)
    with torch.no_grad():
        for weight in net.parameters():  # untrained layers pass the nodes through
            weight[weight == 0] = 0.3
        others = net(torch.from_numpy(windows(6, seed=1)), *batch()[1:])
    net.momentum_step(others["keys"], others["groups"] + 100)
    out = net(*batch())
    return net, {k: v for k, v in out.items() if k not in ("keys", "groups")}


def test_dropped_edges_rebuilt_graph_and_rebuilt_queries_each_take_part():
    _, plain = terms(drop_edges=0.5)
    _, whole = terms(drop_edges=0.0)
    _, unstructured = terms(reconstruction={"structure": 0.0})
    for density in ("teacher", "student"):
        contrast, rec = f"contrast_{density}", f"rec_{density}"
        assert not torch.isclose(plain[contrast], whole[contrast], atol=1e-6)
        assert plain[rec] > unstructured[rec]  # a mean of squares was added
    net, losses = terms()
    for density, branch in net.branches.items():
        # the decoder makes queries: without them the contrast would not reach it
        weights = list(branch.decoder.parameters())
        gradient = torch.autograd.grad(
            losses[f"contrast_{density}"], weights, retain_graph=True, allow_unused=True
        )
        assert any(g is not None and g.abs().max() > 0 for g in gradient)


def test_a_pretraining_step_keeps_no_window():
    net, data = joint(), batch()
    out = net(*data)
    kept = ("keys", "groups")
    sum(v for k, v in out.items() if k not in kept).backward()
    net.momentum_step(*(out[k].detach() for k in kept))
    alive = weakref.ref(data[0])
    del data, out
    gc.collect()
    assert alive() is None


# ---------------------------------------------------------------------------- B-20
def test_a_score_of_people_reads_probabilities_and_not_decisions():
    # every decision is wrong by the threshold, and every person in the right order
    probability, target = np.array([0.10, 0.20, 0.30, 0.40]), np.array([0, 0, 1, 1])
    hard = (probability > 0.5).astype(int)
    assert roc_auc_score(target, hard) == 0.5
    assert tables.area_under_curve(probability, target) == 1.0


# ---------------------------------------------------------------------------- B-31
@pytest.mark.parametrize("make", [student, teacher])
def test_every_parameter_exists_before_the_first_forward(make):
    model = make()
    before = {name: id(p) for name, p in model.named_parameters()}
    model(torch.from_numpy(windows(3))).sum().backward()
    assert {name: id(p) for name, p in model.named_parameters()} == before
