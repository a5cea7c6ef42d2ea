"""Unfitted teachers as somebody will build them: names, callbacks, people, sizes."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold
from skorch.callbacks import Callback, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from tiny import (
    X,
    Y,
    classifier,
    distil,
    fit,
    pretrainer,
    small,
    teacher,
    weights,
    windows,
)

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretrainer,
    GCMAEPretraining,
    GCMAETeacher,
)

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")
PEOPLE = np.repeat([3, 4, 5, 6], 6)


def stage(**given):
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    given = {"max_epochs": 1, "batch_size": 8, "arguments": inner, **given}
    return "pretrain", GCMAEPretraining(**given)


def unfitted(module=GCMAETeacher, **given):
    return classifier(module, **{"max_epochs": 1, **given})


def teacher_of(net):
    return dict(net.callbacks_)["distil"].teacher_


# ------------------------------------------------------------------------- by name
def test_a_teacher_by_its_registered_name_is_the_class():
    nets = [
        fit(classifier(callbacks=[stage(teacher=form), *distil(unfitted(form))]))
        for form in ("GCMAETeacher", GCMAETeacher)
    ]
    assert torch.equal(*(weights(teacher_of(net)) for net in nets))


def test_a_pretrainer_takes_registered_names():
    people = np.repeat([0, 1], 8)
    named = {"teacher": "GCMAETeacher", "student": "GCMAEStudent"}
    made = [
        pretrainer(max_epochs=1, **given).fit(windows(), groups=people)
        for given in (named, {})
    ]
    assert torch.equal(*(weights(m.student_) for m in made))


def test_a_name_that_is_not_registered_is_named():
    with pytest.raises(ValueError, match="no model of the name 'GCMATeacher'.*pass"):
        pretrainer(teacher="GCMATeacher").fit(windows())
    with pytest.raises(ValueError, match="no model of the name 'GCMATeacher'"):
        fit(classifier(callbacks=distil(unfitted("GCMATeacher"))))
