"""An exported file answers as the model does."""

import sys

import numpy as np
import pytest
import torch

from braindecode_gcmae import StreamingClassifier
from braindecode_gcmae.export import export_onnx, export_program
from tests.tiny import (
    FEW,
    NAMES,
    SFREQ,
    classifier,
    exported_answers,
    fit,
    probabilities,
    student,
    teacher,
    trained,
    windows,
)

KEPT = [NAMES.index(name) for name in FEW]
CLASSES = ["left", "right"]


@pytest.fixture(scope="module")
def model():
    return trained(student())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def file(model, folder):
    return export_onnx(model, folder / "student.onnx", classes=CLASSES)


# ------------------------------------------------------------------ torch.export
@pytest.mark.parametrize("make", [student, teacher])
def test_the_captured_program_is_the_model_at_any_batch_size(make):
    model = trained(make())
    program = export_program(model, probabilities=False).module()
    for n in (1, 2, 7):
        x = torch.as_tensor(windows(n, model.network.n_nodes))
        with torch.no_grad():
            torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)


def test_exporting_leaves_the_model_as_it_was(folder):
    model = student().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_program(model)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


# ------------------------------------------------------------------------- ONNX
@pytest.mark.parametrize("n", [1, 2, 5, 33])
def test_one_file_goes_from_raw_windows_to_probabilities(model, file, n):
    x = windows(n, len(FEW), seed=n)
    ours = exported_answers(file, x)
    np.testing.assert_allclose(ours, probabilities(model, x), atol=1e-5)
    np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-6)
    assert np.ptp(probabilities(model, windows(33, len(FEW)))[:, 0]) > 0.01


def test_a_missing_electrode_is_missing_in_the_file_too(model, file):
    x = windows(4, len(FEW))
    x[1, 0, 7], x[2, 1], x[3] = np.nan, np.inf, np.nan
    ours = exported_answers(file, x)
    np.testing.assert_allclose(ours, probabilities(model, x), atol=1e-5)
    other = x.copy()
    other[1, 0] = 1e20  # what a missing electrode holds is nobody's business
    np.testing.assert_array_equal(exported_answers(file, other), ours)


def test_a_file_for_all_channels_takes_the_electrodes_out_of_them(model, folder, file):
    whole = export_onnx(model, folder / "all.onnx", channels="all")
    x = windows(3)
    np.testing.assert_allclose(
        exported_answers(whole, x),
        exported_answers(file, x[:, KEPT]),
        rtol=0,
        atol=1e-6,
    )


def test_an_embedding_model_exports_its_embeddings(folder):
    model = trained(student(n_outputs=None))
    with pytest.raises(ValueError, match="no head"):
        export_onnx(model, folder / "refused.onnx")
    program = export_program(model, probabilities=False).module()
    x = torch.as_tensor(windows(2, len(FEW)))
    with torch.no_grad():
        torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)


def test_eight_bits_are_close_and_say_so_in_a_smaller_file(folder):
    model = trained(student(emb_dim=32, depth=2))
    full = export_onnx(model, folder / "full.onnx")
    small = export_onnx(model, folder / "int8.onnx", int8=True)
    x = windows(64, len(FEW))
    gap = np.abs(exported_answers(small, x) - exported_answers(full, x))
    assert 0 < gap.max() < 0.1
    assert gap.mean() < 0.02
    assert small.stat().st_size < 0.8 * full.stat().st_size
    assert StreamingClassifier(small).channels == FEW


def test_a_file_knows_its_electrodes_and_nothing_of_the_machine(file):
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert facts["channels"] == '["C3", "Cz", "C4"]'
    assert float(facts["sfreq"]) == SFREQ
    content = file.read_bytes()
    assert sys.prefix.encode() not in content
    assert b"site-packages" not in content and b"braindecode_gcmae/" not in content


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (np.array([0, 1]), ["0", "1"]),
        (np.array(CLASSES), CLASSES),
        (("left", 2.5), ["left", "2.5"]),
    ],
)
def test_classes_may_be_any_sequence_of_names_or_numbers(
    model, folder, classes, expected
):
    path = export_onnx(model, folder / "classes.onnx", classes=classes)
    assert StreamingClassifier(path).classes == expected


def test_what_cannot_be_exported_is_refused_by_name(model, folder):
    with pytest.raises(TypeError, match="Linear"):
        export_program(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="channels must be"):
        export_program(model, channels="some")
    with pytest.raises(ValueError, match="3 names of classes"):
        export_onnx(model, folder / "no.onnx", classes=["a", "b", "c"])


def test_a_file_names_the_channels_in_the_order_in_which_it_takes_them(folder):
    x = windows(2, len(FEW))
    turned = trained(student(ch_names=FEW, electrodes=FEW[::-1]))
    path = export_onnx(turned, folder / "turned.onnx")
    assert StreamingClassifier(path).channels == FEW
    np.testing.assert_allclose(
        exported_answers(path, x), probabilities(turned, x), atol=1e-5
    )


@pytest.mark.parametrize(
    "export", [export_program, lambda m, **k: export_onnx(m, "m.onnx", **k)]
)
def test_probabilities_of_a_single_output_are_refused(export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = student(n_outputs=1)
    with pytest.raises(ValueError, match="one output.*probabilities=False"):
        export(model)
    export(model, probabilities=False)


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_file_is_single_precision_whatever_torch_makes(
    double_precision, model, folder, file
):
    x = windows(3, len(FEW))
    for made in (model, trained(student()).double()):
        path = export_onnx(made, folder / "single.onnx")
        ours = exported_answers(path, x)
        assert ours.dtype == np.float32
        expected = probabilities(made, x)
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    x = torch.as_tensor(x)
    program = export_program(model).module()
    np.testing.assert_allclose(program(x).detach(), probabilities(model, x), atol=1e-5)


@pytest.mark.parametrize(
    "wrap", [torch.nn.DataParallel, torch.compile], ids=["DataParallel", "compile"]
)
def test_what_torch_wraps_around_a_model_is_not_exported(wrap, model, folder, file):
    x = windows(3, len(FEW))
    path = export_onnx(wrap(model), folder / "wrapped.onnx", classes=CLASSES)
    np.testing.assert_array_equal(exported_answers(path, x), exported_answers(file, x))
    assert StreamingClassifier(path).channels == FEW
    export_program(wrap(model))


def test_a_net_is_not_exported_by_the_model_that_it_was_given(folder):
    net = fit(classifier(student(electrodes=None)))
    with pytest.raises(TypeError, match="of a fitted net: net.module_.*EEGClassifier"):
        export_onnx(net, folder / "net.onnx")
