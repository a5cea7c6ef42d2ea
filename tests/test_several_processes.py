"""Two processes with half the batch are one with the whole."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupted_runs import findable, same
from process_runs import by_hand, together, train
from skorch.dataset import ValidSplit

STEPS = {"max_epochs": 3}
HALF, WHOLE = {"batch_size": 8}, {"batch_size": 16}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Everything that two processes do here, in one start of them."""
    folder = tmp_path_factory.mktemp("together")
    jobs = {
        "plain": {**HALF, **STEPS},
        "dropout": {**HALF, "max_epochs": 1, "student__drop_prob": 0.5},
        "sequential": {**HALF, **STEPS, "objective": "sequential"},
        "contrast": {**HALF, "max_epochs": 1, "objective": "contrast"},
        "validated": {**HALF, "max_epochs": 2, "train_split": ValidSplit(2)},
        "odd": {"n": 20, "batch_size": 16, "max_epochs": 1},
        "begun": {**HALF, "folder": str(folder / "a"), "max_epochs": 2},
        "finished": {**HALF, **STEPS, "folder": str(folder / "a")},
        "stopped": {
            **HALF,
            **STEPS,
            "folder": str(folder / "b"),
            "stop": 3,
            "every_n_steps": 1,
        },
        "went on": {**HALF, **STEPS, "folder": str(folder / "b"), "every_n_steps": 1},
        "for one": {
            **HALF,
            **STEPS,
            "folder": str(folder / "c"),
            "stop": 3,
            "every_n_steps": 1,
        },
    }
    with findable():
        ends = together(list(jobs.values()), str(folder))
    names = [*jobs, "by hand"]
    return folder, [dict(zip(names, end, strict=True)) for end in ends]


@pytest.fixture(scope="module")
def alone():
    """One process, the whole batch."""
    return train(**WHOLE, **STEPS)


def test_two_processes_with_half_the_batch_have_the_loss_of_one(runs, alone):
    _, (first, _) = runs
    found = first["plain"]
    assert len(found["losses"]) == len(alone["losses"]) == 6
    torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(found["terms"], alone["terms"], rtol=1e-5, atol=1e-6)
    assert found["counts"] == alone["counts"]


@pytest.mark.parametrize(("job", "epochs"), [("sequential", 3), ("contrast", 1)])
def test_parts_of_the_objective_are_shared_too(runs, job, epochs):
    _, (first, _) = runs
    expected = train(**WHOLE, max_epochs=epochs, objective=job)
    losses = first[job]["losses"]
    torch.testing.assert_close(losses, expected["losses"], rtol=1e-5, atol=0)


def test_a_loop_of_torch_alone_needs_no_more_than_its_own_wrapper(runs):
    _, ends = runs
    expected = by_hand()
    for end in ends:
        losses = end["by hand"]["losses"]
        torch.testing.assert_close(losses, expected["losses"], rtol=1e-5, atol=0)
        assert same(end["by hand"]["module"], ends[0]["by hand"]["module"])
        torch.testing.assert_close(
            end["by hand"]["module"]["queue.keys"],
            expected["module"]["queue.keys"],
            rtol=1e-4,
            atol=1e-4,
        )


def test_the_queue_of_every_process_is_that_of_one(runs, alone):
    _, ends = runs
    for end in ends:
        found = end["plain"]["module"]
        for name in ("queue.groups", "queue.pointer", "queue.fill"):
            assert torch.equal(found[name], alone["module"][name])
        torch.testing.assert_close(
            found["queue.keys"], alone["module"]["queue.keys"], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("job", ["plain", "dropout", "odd", "finished", "went on"])
def test_every_process_ends_with_the_same_bits(runs, job):
    _, (first, second) = runs
    for name in ("module", "losses", "terms", "embeddings"):
        assert same(first[job][name], second[job][name]), name


def test_processes_agree_on_the_loss_of_validation(runs):
    """Or one would stop early, or write its best, while the others wait for it."""
    _, (first, second) = runs
    assert first["validated"]["valid"] == second["validated"]["valid"]


def test_a_step_sees_the_windows_of_the_whole_batch_once(runs, alone):
    _, (first, second) = runs
    seen = zip(first["plain"]["seen"], second["plain"]["seen"], strict=True)
    assert [one + two for one, two in seen] == alone["seen"]


def test_fewer_windows_than_a_step_needs_are_learnt_from(runs):
    _, (first, second) = runs
    seen = [sum(end["odd"]["seen"], []) for end in (first, second)]
    assert set(seen[0]) | set(seen[1]) == set(range(20))


def test_processes_drop_units_of_their_own(runs, alone):
    _, (first, _) = runs
    assert first["dropout"]["losses"] != alone["losses"][:2]


def test_one_process_writes_the_checkpoint(runs):
    _, (first, second) = runs
    # Two epochs and the end; the third epoch and the end.
    assert first["begun"]["writings"] == 3 and second["begun"]["writings"] == 0
    assert first["finished"]["writings"] == 1 and second["finished"]["writings"] == 0


@pytest.mark.parametrize("job", ["finished", "went on"])
def test_two_processes_go_on_to_the_same_bits(runs, job):
    """After an epoch, and inside one."""
    _, ends = runs
    for end in ends:
        assert same(end[job]["module"], end["plain"]["module"])
        assert end[job]["losses"] == end["plain"]["losses"]
        assert end[job]["terms"] == end["plain"]["terms"]


def test_another_number_of_processes_goes_on(runs, alone):
    """One process finishes what two have begun, in the middle of an epoch."""
    folder, _ = runs
    found = train(**WHOLE, **STEPS, folder=str(folder / "c"))
    assert len(found["seen"]) == 3  # of six steps
    torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        found["embeddings"], alone["embeddings"], rtol=1e-3, atol=1e-3
    )


# ------------------------------------------------------------------ launchers
SCRIPT = """
import numpy as np, torch
from accelerate import Accelerator
from skorch.hf import AccelerateMixin
from braindecode_gcmae import GCMAEPretrainer
from tiny import pretrainer, windows

class Net(AccelerateMixin, GCMAEPretrainer):
    pass

accelerator = Accelerator()
arguments = pretrainer(max_epochs=2).get_params(deep=False)
arguments.pop("device")
net = Net(accelerator=accelerator, **arguments)
net.fit(windows(32), groups=np.repeat(np.arange(8), 4))
queue = net.joint_.queue
told = {
    "processes": accelerator.num_processes,
    "device": accelerator.device.type,
    "backend": torch.distributed.get_backend(),
    "losses": [float(loss) for loss in net.history[:, "train_loss"]],
    "keys": queue.keys,
    "groups": queue.groups,
}
torch.save(told, f"told.{accelerator.process_index}.pt")
if accelerator.is_main_process:
    net.save_pretrained("run")
"""

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# What accelerate calls multi_gpu starts processes; the environment says CPU.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--main_process_port", "0"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCHERS = {"torchrun": TORCHRUN, "accelerate launch": ACCELERATE}
EXAMPLE = Path(__file__).parents[1] / "examples/launch/pretrain_in_processes.py"


def launch(launcher, script, folder):
    tests = Path(__file__).parent
    paths = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(script)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_script_under_a_launcher(launcher, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    launch(LAUNCHERS[launcher], "script.py", tmp_path)
    first, second = (
        torch.load(tmp_path / f"told.{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert first["processes"] == second["processes"] == 2
    assert (first["device"], first["backend"]) == ("cpu", "gloo")
    expected = train(batch_size=16, max_epochs=2)
    means = [sum(expected["losses"][i : i + 2]) / 2 for i in (0, 2)]
    for told in (first, second):
        torch.testing.assert_close(told["losses"], means, rtol=1e-5, atol=0)
    # One queue: the same bits in both, and the keys of the one process.
    assert torch.equal(first["keys"], second["keys"])
    assert torch.equal(first["groups"], second["groups"])
    alone = expected["module"]
    assert torch.equal(first["groups"], alone["queue.groups"])
    torch.testing.assert_close(first["keys"], alone["queue.keys"], rtol=1e-4, atol=1e-4)
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_script_of_the_documentation_under_accelerate_launch(tmp_path):
    launch(ACCELERATE, EXAMPLE, tmp_path)
    told = json.loads((tmp_path / "run1" / "history.json").read_text())
    assert (told["processes"], told["device"]) == (2, "cpu")
    assert len(told["train_loss"]) == 2 and np.isfinite(told["train_loss"]).all()
    assert (tmp_path / "run1" / "teacher" / "model.safetensors").is_file()


def _alone_in_a_group(rank, folder, seed):
    """A model of its own in each of two processes that know of each other."""
    import torch.distributed as group
    from tiny import student, windows

    store = group.FileStore(str(folder / "store"), 2)
    group.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = student().train()
    model(torch.from_numpy(windows(8 + 8 * rank, seed=seed + rank)))
    norm = model.network.norm
    torch.save([norm.mean, norm.windows], folder / f"{rank}.pt")
    group.barrier()
    group.destroy_process_group()


def test_processes_with_a_model_each_know_nothing_of_each_others_data(tmp_path):
    """A fold in each process: statistics of both would hold the other's test people."""
    from tiny import student, windows

    spawn = torch.multiprocessing.spawn
    spawn(_alone_in_a_group, (tmp_path, 3), nprocs=2)
    for rank in (0, 1):
        mean, seen = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        model = student().train()
        model(torch.from_numpy(windows(8 + 8 * rank, seed=3 + rank)))
        assert int(seen) == 8 + 8 * rank
        torch.testing.assert_close(mean, model.network.norm.mean)


def _pretrains_while_others_wait(rank, folder):
    """The second of two processes pretrains; the first only knows of it."""
    import torch.distributed as group
    from tiny import pretrainer, windows

    from braindecode_gcmae import ResumableCheckpoint

    store, patience = group.FileStore(str(folder / "store"), 2), timedelta(seconds=60)
    group.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=patience
    )
    if rank == 1:
        callbacks = [("resume", ResumableCheckpoint(folder / "run"))]
        net = pretrainer(callbacks=callbacks, max_epochs=1)
        net.fit(windows(16), groups=np.repeat(np.arange(4), 4))
        torch.save(net.joint_.state_dict(), folder / "alone.pt")
    group.barrier()
    group.destroy_process_group()


def test_a_pretraining_of_one_process_needs_no_other(tmp_path):
    """Nor does it learn of another's keys, which may be of its own test people."""
    spawn = torch.multiprocessing.spawn
    spawn(_pretrains_while_others_wait, (tmp_path,), nprocs=2)
    found = torch.load(tmp_path / "alone.pt", weights_only=True)
    expected = train(n=16, batch_size=8, max_epochs=1)["module"]
    assert same(found, expected)
    assert (tmp_path / "run" / "training.pt").is_file()
