"""The examples of the docstrings run, and give what stands below them."""

import doctest
import inspect
import logging
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
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert outcome.failed == 0
