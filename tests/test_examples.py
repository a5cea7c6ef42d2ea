"""Examples run as scripts, stay short, and use nothing but public names."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import braindecode_gcmae

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("plot_*.py"))
PIPELINES = FOLDER / "moabb_pipelines"
each = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def test_gallery_is_complete():
    names = {path.stem.removeprefix("plot_") for path in EXAMPLES}
    assert {
        "pretrain",
        "distil_to_few_electrodes",
        "soft_labels",
        "missing_electrodes",
        "look_inside_the_graph",
        "which_electrodes",
        "moabb_benchmark",
        "own_bids_data",
        "export_and_real_time",
    } <= names


@each
def test_examples_are_short_titled_and_public(path):
    text = path.read_text()
    assert len(text.splitlines()) < 150
    tree = ast.parse(text)
    title, underline = ast.get_docstring(tree).splitlines()[:2]
    assert set(underline) == {"="} and len(underline) == len(title)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "braindecode_gcmae":
            assert {alias.name for alias in node.names} <= set(
                braindecode_gcmae.__all__
            )
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name.startswith("_") for alias in node.names)


@pytest.mark.slow
@each
def test_examples_run_as_scripts(path, tmp_path):
    environment = {
        **os.environ,
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(FOLDER.parent),
        "MOABB_RESULTS": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def read_pipelines():
    from moabb.pipelines.utils import parse_pipelines_from_directory

    return {
        found["name"]: found["pipeline"]
        for found in parse_pipelines_from_directory(str(PIPELINES))
    }


def test_moabb_reads_the_pipelines():
    found = read_pipelines()
    assert set(found) == {"GCMAEStudent motor-8", "GCMAEStudent motor-8 distilled"}


@pytest.mark.slow
def test_moabb_benchmarks_the_pipelines(tmp_path):
    import moabb
    from moabb.datasets.fake import FakeDataset

    pipelines = []
    for name, pipeline in read_pipelines().items():
        net = pipeline[-1] if hasattr(pipeline, "steps") else pipeline
        few = {"max_epochs": 1, "batch_size": 5}  # of the ten windows in a fold
        net.set_params(**few)
        for _, callback in net.callbacks or []:
            callback.teacher.set_params(**few, module__emb_dim=16, module__depth=1)
        pipelines.append(
            {"name": name, "paradigms": ["LeftRightImagery"], "pipeline": pipeline}
        )
    dataset = FakeDataset(
        event_list=["left_hand", "right_hand"],
        n_sessions=1,
        n_runs=1,
        n_subjects=2,
        channels=braindecode_gcmae.montage_preset("10-10-64"),
        sfreq=160.0,
        n_events=10,
        seed=0,
    )
    results = moabb.benchmark(
        pipelines=pipelines,
        evaluations=["CrossSubject"],
        paradigms=["LeftRightImagery"],
        include_datasets=[dataset],
        results=str(tmp_path / "results"),
        output=str(tmp_path / "output"),
        n_jobs=1,
        plot=False,
    )
    assert set(results["pipeline"]) == {made["name"] for made in pipelines}
    assert len(results) == 2 * len(pipelines)
    assert results["score"].between(0, 1).all()
