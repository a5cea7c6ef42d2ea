"""What is pushed to a Hub comes back from it, to the bit, with a card that tells.

huggingface_hub itself talks to a server on this machine that speaks its protocol.
"""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_server import TOKEN, USER, local_hub
from huggingface_hub import HfApi, ModelCard
from matplotlib.image import imread
from tiny import FEW, NAMES, SIGNAL, SMALL, pretrainer, quietly, student, teacher
from tiny import windows as tiny_windows

from braindecode_gcmae import GCMAEPretrainer, GCMAEStudent, GCMAETeacher
from braindecode_gcmae.models import CheckpointError
from braindecode_gcmae.montage import electrode_positions
from braindecode_gcmae.montage.head import HEAD_RADIUS, draw_montage, project_positions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(monkeypatch, tmp_path / "cache") as running:
        yield running


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def card_of(hub, repo_id, path="README.md"):
    return ModelCard(hub.repos[repo_id][path].decode())


# ----------------------------------------------------------------- both models
@pytest.mark.parametrize(
    ("make", "cls"), [(student, GCMAEStudent), (teacher, GCMAETeacher)]
)
def test_a_pushed_model_comes_back_to_the_bit(hub, make, cls, caplog):
    model = make().eval()
    url = model.push_to_hub("someone/model", token=TOKEN)
    assert str(url).startswith(f"{hub.url}/someone/model")
    assert sorted(hub.repos["someone/model"]) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "montage.png",
    ]
    with caplog.at_level("INFO", logger="braindecode_gcmae"):
        again = cls.from_pretrained("someone/model")
    n = len(model.state_dict())
    assert f"{n} of {n} tensors matched" in caplog.text
    assert same(model, again) and again.get_config() == model.get_config()
    x = torch.from_numpy(tiny_windows(3))
    with torch.no_grad():
        assert torch.equal(model(x), again(x))
    # Of a repository, nothing but these two files is ever asked for.
    asked = {path.rsplit("/", 1)[1] for _, path in hub.asked if "/resolve/" in path}
    assert asked == {"config.json", "model.safetensors"}


def test_a_user_without_a_token_publishes_nothing(hub):
    with pytest.raises(OSError, match="401"):
        student().push_to_hub("someone/model", token="hf_wrong")
    assert hub.repos == {}


def test_a_short_name_belongs_to_the_user_and_saving_may_push(hub, tmp_path):
    model = student()
    model.save_pretrained(tmp_path / "mine", push_to_hub=True, token=TOKEN)
    assert same(model, GCMAEStudent.from_pretrained(f"{USER}/mine"))
    assert (tmp_path / "mine" / "model.safetensors").is_file()


def test_a_second_push_replaces_the_first_and_a_revision_is_kept(hub, tmp_path):
    first, second = student(seed=1), student(seed=2)
    first.push_to_hub("someone/model", token=TOKEN, commit_message="one")
    assert hub.messages["someone/model"] == "one"
    GCMAEStudent.from_pretrained("someone/model")
    revision = hub.commits["someone/model"]
    second.push_to_hub("someone/model", token=TOKEN)
    assert same(second, GCMAEStudent.from_pretrained("someone/model"))
    # The cache has the first one; the server has forgotten it.
    kept = {"revision": revision, "local_files_only": True}
    assert same(first, GCMAEStudent.from_pretrained("someone/model", **kept))


def test_arguments_of_the_caller_supersede_those_on_the_hub(hub):
    student().push_to_hub("someone/model", token=TOKEN)
    encoder = GCMAEStudent.from_pretrained("someone/model", n_outputs=None)
    other = GCMAEStudent.from_pretrained("someone/model", ch_names=["Oz", "O1", "O2"])
    assert encoder.get_config()["n_outputs"] is None and other.n_chans == 3


# ----------------------------------------------------------------- what is refused
def test_what_is_not_there_is_named(hub):
    student().push_to_hub("someone/model", token=TOKEN)
    for name in ("someone/other", "someone/model/student", "no folder at all"):
        with pytest.raises(
            CheckpointError, match=f"{name}.*(not found|no repository) on the Hub"
        ):
            GCMAEStudent.from_pretrained(name)
    with pytest.raises(CheckpointError, match="not a GCMAETeacher"):
        GCMAETeacher.from_pretrained("someone/model")
    with pytest.raises(CheckpointError, match="neither"):
        GCMAEPretrainer().load_pretrained("someone/model")
    with pytest.raises(CheckpointError, match="someone/other"):
        GCMAEPretrainer().load_pretrained("someone/other")


def test_weights_of_which_none_matches_are_refused(hub):
    from safetensors.torch import save

    student().push_to_hub("someone/model", token=TOKEN)
    files = hub.repos["someone/model"]
    files["model.safetensors"] = save({"other.weight": torch.zeros(3)})
    config = json.loads(files["config.json"])
    del config["weights_sha256"]
    files["config.json"] = json.dumps(config).encode()
    with pytest.raises(CheckpointError, match="none of its 1 tensors matches"):
        GCMAEStudent.from_pretrained("someone/model")


def test_weights_changed_on_the_way_are_refused(hub):
    from safetensors.torch import load, save

    student().push_to_hub("someone/model", token=TOKEN)
    files = hub.repos["someone/model"]
    state = load(files["model.safetensors"])
    name = next(iter(state))
    files["model.safetensors"] = save({**state, name: state[name] + 1})
    with pytest.raises(CheckpointError, match="damaged"):
        GCMAEStudent.from_pretrained("someone/model")


# ----------------------------------------------------------------- the card
def test_the_card_holds_the_montage_the_metrics_and_an_example_that_runs(hub):
    metrics = {"accuracy on unseen people": 0.61234, "people": 10}
    card = {"metrics": metrics, "title": "A student for eight electrodes"}
    student().push_to_hub("someone/model", token=TOKEN, model_card_kwargs=card)
    card = card_of(hub, "someone/model")
    header = yaml.safe_load(card.content.split("---")[1])
    assert header["library_name"] == "braindecode"
    assert {"braindecode", "GCMAEStudent"} <= set(header["tags"])
    assert "# A student for eight electrodes" in card.text
    assert "](montage.png)" in card.text
    assert "| accuracy on unseen people | 0.6123 |\n| people | 10 |" in card.text
    assert "- **electrodes**: 3 (C3, Cz, C4)\n" in card.text
    assert "160 samples at 100 Hz" in card.text
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.S)
    namespace = {}
    exec(code, namespace)
    assert namespace["model"].n_chans == len(NAMES)


def test_the_card_of_a_saved_folder_has_no_figure_and_no_empty_table(tmp_path):
    student(n_outputs=None).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "montage.png" not in text and "Metrics" not in text
    assert "embeddings, no head" in text


@pytest.mark.parametrize("make", [student, teacher])
def test_the_card_links_to_nothing_that_does_not_exist(make):
    """braindecode's default is a page about our model in *its* documentation."""
    model = make()
    text = model.generate_model_card().text
    links = set(re.findall(r"https?://[^\s)\]]+", text))
    assert links == {"https://arxiv.org/abs/2411.19230", "https://braindecode.org"}
    assert not model._hub_mixin_info.docs_url


def test_a_model_without_names_has_a_card_without_a_figure(hub):
    model = quietly(
        GCMAEStudent, n_outputs=2, n_chans=4, n_times=160, sfreq=100.0, **SMALL
    )
    model.push_to_hub("someone/model", token=TOKEN)
    assert "montage.png" not in hub.repos["someone/model"]
    text = card_of(hub, "someone/model").text
    assert "montage.png" not in text and "4, without names" in text


def test_the_figure_has_a_disc_where_each_electrode_is(hub):
    student().push_to_hub("someone/model", token=TOKEN)
    image = imread(io.BytesIO(hub.repos["someone/model"]["montage.png"]))[..., :3]
    assert image.shape[0] == image.shape[1] > 500
    blue = (np.abs(image - np.array([0, 114, 178]) / 255) < 0.02).all(-1)
    reach = 1.2 * HEAD_RADIUS
    for name, (u, v) in zip(
        NAMES, project_positions(electrode_positions(NAMES)), strict=True
    ):
        row = int((1 - v / reach) / 2 * len(image))
        column = int((1 + u / reach) / 2 * len(image))
        around = blue[row - 12 : row + 12, column - 12 : column + 12]
        assert (around.mean() > 0.3) == (name in FEW), name


def test_a_montage_without_positions_is_not_drawn(tmp_path):
    assert not draw_montage(tmp_path / "x.png", ["left", "right"])
    assert not (tmp_path / "x.png").exists()
    assert draw_montage(tmp_path / "x.png", ["left", "Cz"])


# ----------------------------------------------------------------- a run
@pytest.fixture(scope="module")
def run():
    net = pretrainer(max_epochs=2)
    return net.fit(tiny_windows(16), groups=np.repeat(np.arange(4), 4))


def test_a_pretraining_run_comes_back_whole_and_in_parts(hub, run):
    run.push_to_hub("someone/run1", token=TOKEN, private=True)
    assert sorted(hub.repos["someone/run1"]) == [
        "README.md",
        "montage.png",
        *(f"student/{n}" for n in ("README.md", "config.json", "model.safetensors")),
        *(f"teacher/{n}" for n in ("README.md", "config.json", "model.safetensors")),
    ]
    again = GCMAEPretrainer.from_pretrained("someone/run1", batch_size=8, verbose=0)
    assert same(run.student_, again.student_) and same(run.teacher_, again.teacher_)
    x = tiny_windows(3, seed=5)
    assert np.array_equal(again.transform(x), run.transform(x))
    assert np.array_equal(again.transform_teacher(x), run.transform_teacher(x))
    part = GCMAEStudent.from_pretrained("someone/run1/student", n_outputs=2)
    body = part.network.state_dict()
    own = run.student_.network.state_dict()
    assert all(torch.equal(body[name], own[name]) for name in own)
    again.set_params(max_epochs=1)
    again.partial_fit(x)
    assert len(again.history) == 1


def test_a_run_of_a_student_alone_comes_back_alone(hub):
    net = pretrainer(teacher=None, max_epochs=1)
    net.fit(tiny_windows(16), groups=np.repeat(np.arange(4), 4))
    net.push_to_hub("someone/run2", token=TOKEN)
    assert not any(name.startswith("teacher") for name in hub.repos["someone/run2"])
    again = GCMAEPretrainer.from_pretrained("someone/run2")
    assert same(net.student_, again.student_)
    with pytest.raises(ValueError, match="without a teacher"):
        _ = again.teacher_


def test_the_card_of_a_run_tells_its_last_epoch(hub, run):
    card = {"metrics": {"probe accuracy": 0.75}}
    run.push_to_hub("someone/run1", token=TOKEN, model_card_kwargs=card)
    text = card_of(hub, "someone/run1").text
    last = run.history[-1]
    for name in ("rec_teacher", "rec_student", "contrast_student", "train_loss"):
        assert f"| {name} | {last[name]:.4g} |" in text
    assert "| epochs | 2 |" in text and "| probe accuracy | 0.75 |" in text
    assert "](montage.png)" in text and "_best" not in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    namespace = {}
    exec(code, namespace)
    assert namespace["teacher"].n_outputs == namespace["student"].n_outputs == 2


def test_a_run_in_a_folder_and_one_on_the_hub_are_read_alike(hub, run, tmp_path):
    run.save_pretrained(tmp_path / "run1")
    run.push_to_hub("someone/run1", token=TOKEN)
    local = GCMAEPretrainer.from_pretrained(tmp_path / "run1")
    remote = GCMAEPretrainer.from_pretrained("someone/run1", hub={"revision": "main"})
    assert same(local.joint_.branches, remote.joint_.branches)


# ----------------------------------------------------------------- another process
FRESH = """
import sys, torch
from braindecode_gcmae import GCMAEStudent
model = GCMAEStudent.from_pretrained(sys.argv[1])
torch.save(model.state_dict(), sys.argv[2])
"""


def test_another_process_loads_it_by_the_environment_alone(hub, tmp_path):
    """HF_ENDPOINT and HF_HOME, as a user sets them; nothing patched."""
    model = student()
    model.push_to_hub("someone/model", token=TOKEN)
    info = HfApi(endpoint=hub.url).model_info("someone/model", revision="main")
    assert "model.safetensors" in {file.rfilename for file in info.siblings}
    out = tmp_path / "state.pt"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-W", "ignore", "-c", FRESH, "someone/model", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(out, weights_only=True)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert SIGNAL["n_times"] == model.n_times
