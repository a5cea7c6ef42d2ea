"""Parts with weights for one montage know its electrodes, and never take others."""

import pytest
import torch
from torch import nn

from braindecode_gcmae import GCMAEStudent, GCMAETeacher, StartFrom
from braindecode_gcmae.graph import FreeGraph
from braindecode_gcmae.models import CheckpointError, FlattenReadout
from braindecode_gcmae.montage import electrode_positions, make_chs_info
from tests.tiny import FEW, NAMES, classifier, fit, student, teacher, trained, windows


class OwnReadout(nn.Module):
    """A user's own, which says that it is tied."""

    tied = True

    def __init__(self, dim, n_basis, n_nodes):
        super().__init__()
        self.n_outputs = dim
        self.weight = nn.Parameter(torch.randn(n_nodes, 1))

    def forward(self, h, electrodes):
        return (h * self.weight).sum(1)


TIED = {
    "flattened": {"readout": FlattenReadout},
    "free graph": {"graph": FreeGraph},
    "own": {"readout": OwnReadout},
}
X = torch.as_tensor(windows(4))
ORDER = [4, 2, 0, 5, 1, 3]
OTHERS = ["Fp1", "Fp2", "O1", "O2", "T7", "T8"]
POSITIONS = torch.as_tensor(electrode_positions(NAMES)).float()


@pytest.fixture(params=TIED)
def parts(request):
    return TIED[request.param]


@pytest.fixture
def model(parts):
    return trained(teacher(**parts))


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "tied")
    return tmp_path / "tied"


def loaded(folder, parts, cls=GCMAETeacher, **arguments):
    own = {k: v for k, v in parts.items() if v is OwnReadout}
    return cls.from_pretrained(folder, **own, **arguments)


def same(first, second):
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_positions_say_which_electrode_is_which(model):
    right = model(X)
    same(model(X, pos=POSITIONS), right)
    same(model(X[:, ORDER], pos=POSITIONS[ORDER]), right)


def test_electrodes_that_are_not_there_by_position_are_missing(model):
    x = X.clone()
    x[:, 4:] = float("nan")
    same(model(X[:, :4], pos=POSITIONS[:4]), model(x))


def test_a_script_of_a_tied_model_goes_by_position_too():
    model = trained(student(readout=FlattenReadout, electrodes=None))
    scripted = torch.jit.script(model)
    same(scripted(X[:, ORDER], POSITIONS[ORDER]), model(X))


def test_without_positions_of_its_own_a_tied_model_takes_rows():
    with pytest.warns(UserWarning, match="no chs_info"):
        model = trained(teacher(ch_names=None, n_chans=6, readout=FlattenReadout))
    assert not torch.equal(model(X, pos=POSITIONS), model(X[:, ORDER], pos=POSITIONS))
    with pytest.raises(ValueError, match="FlattenReadout is tied to 6"):
        model(X[:, :4], pos=POSITIONS[:4])


@pytest.mark.parametrize("as_info", [False, True])
def test_a_tied_checkpoint_keeps_its_electrodes_on_another_cap(
    model, parts, folder, as_info
):
    names = [NAMES[row] for row in ORDER] + ["Oz", "Fz"]
    cap = {"chs_info": make_chs_info(names)} if as_info else {"ch_names": names}
    other = loaded(folder, parts, **cap)
    x = torch.cat([X[:, ORDER], X[:, :2]], 1)
    same(other(x), model(X))
    assert other.get_config()["electrodes"] == NAMES


def test_a_tied_checkpoint_on_its_own_cap_is_what_was_saved(model, parts, folder):
    for given in ({}, {"ch_names": NAMES}, {"chs_info": make_chs_info(NAMES)}):
        again = loaded(folder, parts, **given)
        assert torch.equal(again(X), model(X))
        assert again.get_config()["electrodes"] is None


def test_a_tied_checkpoint_refuses_a_cap_that_lacks_an_electrode(parts, folder):
    for names in (OTHERS, [*NAMES[:5], "Oz"]):
        with pytest.raises(CheckpointError, match=r"tied to its.*lack some.*'Pz'"):
            loaded(folder, parts, ch_names=names)


def test_a_tied_checkpoint_refuses_other_electrodes_of_its_cap(parts, folder):
    assert loaded(folder, parts, electrodes=NAMES).network.n_nodes == 6
    for electrodes in (NAMES[::-1], FEW):
        with pytest.raises(CheckpointError, match="tied to its electrodes"):
            loaded(folder, parts, electrodes=electrodes)


def test_bipolar_channels_are_the_same_where_all_names_are(tmp_path):
    names = ["Fp1-A1", "Fp1-A2", "C3-A1"]
    few = X[:, :3]
    model = trained(teacher(ch_names=names, readout=FlattenReadout))
    model.save_pretrained(tmp_path)
    again = GCMAETeacher.from_pretrained(tmp_path, ch_names=names)
    assert torch.equal(again(few), model(few))


def test_training_starts_from_tied_weights_with_their_electrodes_alone(tmp_path):
    saved = trained(student(readout=FlattenReadout))
    saved.save_pretrained(tmp_path / "s")
    arguments = {"module__readout": FlattenReadout, "max_epochs": 0}
    for start in (saved, tmp_path / "s"):
        callbacks = [("start", StartFrom(start))]
        net = classifier(callbacks=callbacks, **arguments)
        assert fit(net).module_.network.n_nodes == len(FEW)
        wrong = {**arguments, "module__electrodes": FEW[::-1]}
        with pytest.raises(ValueError, match=r"tied.*electrodes=\['C3', 'Cz', 'C4'\]"):
            fit(classifier(callbacks=callbacks, **wrong))


def test_the_papers_student_is_tied():
    model = GCMAEStudent.paper(n_outputs=2, ch_names=NAMES, sfreq=100, n_times=160)
    model = trained(model)
    same(model(X[:, ORDER], pos=POSITIONS[ORDER]), model(X))
