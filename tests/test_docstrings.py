"""The examples of the docstrings run, and give what stands below them."""

import doctest
import inspect
import logging
import re
from functools import partial

import matplotlib
import pytest

import braindecode_gcmae

NAMES = """GCMAEClassifier GCMAEPretrainer GCMAEPretraining GCMAEStudent GCMAETeacher
RecordingAlignment SimulatedEEG StreamingClassifier TopologyDistillation export_onnx
montage_preset plot_electrode_graph plot_training_curves select_electrodes""".split()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    # Some packages send what all others log to the standard output.
    request.addfinalizer(partial(logging.disable, logging.root.manager.disable))
    logging.disable(logging.CRITICAL)
    text = inspect.getdoc(getattr(braindecode_gcmae, name))
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    # a statement over several lines is one
    assert 1 <= len(test.examples) <= 6
    if "export_onnx" in text:
        pytest.importorskip("onnxruntime")
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert outcome.failed == 0


@pytest.mark.parametrize("name", ["GCMAEStudent", "GCMAETeacher"])
def test_each_argument_of_a_model_has_an_entry_of_its_own(name):
    # braindecode's inherited docstrings call one in an entry of several "missing".
    model = getattr(braindecode_gcmae, name)
    section = inspect.getdoc(model).split("----------\n")[1].split("\n\n")[0]
    entries = re.findall(r"^(\S.*) : ", section, re.M)
    arguments = list(inspect.signature(model).parameters)
    assert entries == arguments[arguments.index("electrodes") :]
