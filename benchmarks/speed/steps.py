"""Rows of the training steps: pretraining and distillation."""

import warnings

import torch

from braindecode_gcmae import GCMAEStudent, GCMAETeacher, montage_preset
from braindecode_gcmae.models import JointPretraining

from .measure import interleave, milliseconds, row
from .reference import reference_losses

FEW = "FC3 FC4 C5 C3 Cz C4 C6 CPz".split()
SIGNAL = {"n_times": 640, "sfreq": 160.0}


def cap(n: int = 64) -> list[str]:
    """Names of n electrodes, the student's eight among them."""
    from braindecode_gcmae.montage import standard_positions

    names = [*FEW, *montage_preset("10-20-19")]
    names += [name for name in standard_positions() if name[-1:].isdigit()]
    return list(dict.fromkeys(names))[:n]


def pair(n: int = 64, few=FEW, **sizes) -> tuple:
    """Teacher of n electrodes and student of few."""
    torch.default_generator.manual_seed(0)
    teacher = GCMAETeacher(n_outputs=2, ch_names=cap(n), **SIGNAL, **sizes)
    student = GCMAEStudent(n_outputs=2, ch_names=cap(n), electrodes=few, **SIGNAL)
    return teacher, student


def windows(batch: int, n: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 10 * torch.randn(batch, n, SIGNAL["n_times"], generator=generator)


class PretrainingStep:
    """One optimiser step of joint pretraining, the queue full."""

    def __init__(self, joint: JointPretraining, x: torch.Tensor, loss=None, half=False):
        self.joint, self.x, self.loss, self.half = joint, x, loss or joint, half
        device = x.device
        self.index = torch.arange(len(x), device=device)
        self.group = self.index % 4
        self.optimizer = torch.optim.AdamW(joint.parameters(), lr=1e-4)
        with torch.no_grad():
            keys = torch.randn(joint.queue.keys.shape, device=device)
            joint.queue.enqueue(keys, torch.full((len(keys),), 9, device=device))

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        # As GCMAEPretrainer's precision="bfloat16" does it: the forward pass alone.
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.half):
            output = self.loss(self.x, self.index, self.group)
        keys = output.pop("keys")
        output.pop("groups", None)
        total = torch.stack(list(output.values())).sum()
        total.backward()
        self.optimizer.step()
        self.joint.momentum_step(keys, self.group)
        return total


def necessary_passes(joint: JointPretraining, batch: int):
    """Encoder and decoder alone, on as many graphs as a step has.

    With gradient: the query's view, two masked graphs and the query's reconstruction
    through the encoder, two through the decoder; without: two keys.
    """
    parts = []
    for branch in joint.branches.values():
        network = branch.model.network
        n, dim = network.n_nodes, network.embed.out_features
        device = network.embed.weight.device
        h = torch.randn(4 * batch, n, dim, device=device)
        graph = torch.rand(4 * batch, n, n, device=device)
        exists = torch.ones(4 * batch, n, dtype=torch.bool, device=device)
        parts.append((branch, h.requires_grad_(), graph, exists))

    def run():
        for branch, h, graph, exists in parts:
            network, two = branch.model.network, 2 * batch
            encoded = network.encoder(h, graph, exists)
            decoded = branch.decoder(encoded[:two], graph[:two], exists[:two])
            (decoded.sum() + encoded.sum()).backward()
            with torch.no_grad():
                branch.key["network"].encoder(h[:two], graph[:two], exists[:two])

    return run


def pretraining(batch: int = 32, device="cpu", turns=interleave) -> list[dict]:
    """A step against the passes it cannot avoid."""
    joint = JointPretraining(*pair(), queue_size=4096).to(device)
    times = turns(
        {
            "step": PretrainingStep(joint, windows(batch).to(device)),
            "passes": necessary_passes(joint, batch),
        }
    )
    ratio = times["step"] / times["passes"]
    return [
        row(
            f"pretraining step, B={batch}, 64 and 8 electrodes, queue 4,096",
            "its encoder and decoder passes, timed alone",
            "<= 1.3x",
            f"{ratio:.2f}x",
            ratio <= 1.3,
            ratio=ratio,
            milliseconds=milliseconds(times),
        )
    ]


def pretraining_in_bfloat16(batch: int = 32) -> list[dict]:
    """A step with ``precision="bfloat16"`` against the same in float32."""
    steps = {
        name: PretrainingStep(
            JointPretraining(*pair(), queue_size=4096), windows(batch), half=half
        )
        for name, half in (("bfloat16", True), ("float32", False))
    }
    times = interleave(steps)
    ratio = times["float32"] / times["bfloat16"]
    return [
        row(
            f"pretraining step, B={batch}, 64 and 8 electrodes, bfloat16",
            "the same step in float32",
            "faster",
            f"{ratio:.2f}x faster",
            ratio > 1,
            ratio=ratio,
            milliseconds=milliseconds(times),
        )
    ]


def paper_sizes(batch: int, device="cpu") -> tuple:
    """A joint module at the paper's sizes, windows, and the loss as loops over them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = cap(64)
        teacher = GCMAETeacher.paper(n_outputs=2, ch_names=names, **SIGNAL)
        student = GCMAEStudent.paper(
            n_outputs=2, ch_names=names, electrodes=names[:16], **SIGNAL
        )
    joint = JointPretraining(teacher, student, queue_size=4096).eval().to(device)

    def loops(*arguments):
        return reference_losses(joint, *arguments)

    return joint, windows(batch).to(device), loops


def against_equations(batch: int = 16, device="cpu", turns=interleave) -> list[dict]:
    """A step at the paper's sizes against per-window loops over its equations."""
    joint, x, loops = paper_sizes(batch, device)
    times = turns(
        {"ours": PretrainingStep(joint, x), "loops": PretrainingStep(joint, x, loops)},
        rounds=3,
    )
    ratio = times["loops"] / times["ours"]
    return [_against_equations(batch, "", f"{ratio:.1f}x", ratio, times)]


def against_equations_in_bfloat16(batch: int = 16) -> list[dict]:
    """The same with ``precision="bfloat16"``, which not every processor gains from."""
    joint, x, loops = paper_sizes(batch)
    times = interleave(
        {
            "ours": PretrainingStep(joint, x, half=True),
            "loops": PretrainingStep(joint, x, loops),
            "loops, bfloat16": PretrainingStep(joint, x, loops, half=True),
        },
        rounds=3,
    )
    ratio, like = (times[name] / times["ours"] for name in ("loops", "loops, bfloat16"))
    measured = f"{ratio:.1f}x; {like:.1f}x than the loops in bfloat16"
    return [_against_equations(batch, ", bfloat16", measured, ratio, times)]


def _against_equations(batch, how, measured, ratio, times) -> dict:
    return row(
        f"pretraining step at the paper's sizes, B={batch}{how}",
        "its equations, window by window (reference.py)",
        ">= 10x faster",
        measured,
        ratio >= 10,
        ratio=ratio,
        milliseconds=milliseconds(times),
    )


def _net(student, x, y, callbacks, device):
    """A function that makes one step of an initialised net on the batch."""
    from braindecode import EEGClassifier
    from skorch.utils import to_device

    net = EEGClassifier(
        student,
        optimizer=torch.optim.AdamW,
        batch_size=len(x),
        train_split=None,
        callbacks=callbacks,
        callbacks__print_log=None,
        classes=[0, 1],
        device=device,
    )
    net.initialize()
    dataset = net.get_dataset(x, y)
    net.notify("on_train_begin", X=x, y=y)
    net.history.new_epoch()
    net.notify("on_epoch_begin", dataset_train=dataset, dataset_valid=None)
    batch = to_device(next(iter(net.get_iterator(dataset, training=True))), device)

    def step():
        net.history.new_batch()
        net.notify("on_batch_begin", batch=batch, training=True)
        out = net.train_step(batch)
        net.notify("on_batch_end", batch=batch, training=True, **out)

    return step


def distillation(batch: int = 64, device="cpu", turns=interleave) -> list[dict]:
    """A step of distillation against the student's step and the teacher's forward."""
    import copy

    from braindecode_gcmae import TopologyDistillation

    teacher, student = pair()
    teacher.eval().to(device)
    torch.nn.init.normal_(teacher.final_layer.weight)
    torch.nn.init.normal_(teacher.final_layer.bias)  # a head that is not new
    x, y = windows(batch).numpy(), (torch.arange(batch) % 2).numpy()
    tensor = torch.as_tensor(x, device=device)

    def teach():
        with torch.no_grad():
            teacher(tensor)

    distil = [("distil", TopologyDistillation(teacher))]
    times = turns(
        {
            "distillation step": _net(copy.deepcopy(student), x, y, distil, device),
            "student step": _net(copy.deepcopy(student), x, y, None, device),
            "teacher forward": teach,
        }
    )
    ratio = times["distillation step"] / (
        times["student step"] + times["teacher forward"]
    )
    # On other devices than the CPU none are kept: to find them would be to wait.
    kept = "the teacher's answers kept, " if torch.device(device).type == "cpu" else ""
    return [
        row(
            f"distillation step, {kept}B={batch}, 64 to 8 electrodes",
            "student step + teacher forward, timed alone",
            "<= 1.15x",
            f"{ratio:.2f}x",
            ratio <= 1.15,
            ratio=ratio,
            milliseconds=milliseconds(times),
        )
    ]
