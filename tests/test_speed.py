"""The speed benchmarks compare like with like; their CUDA part runs without CUDA."""

import json

import pytest
import torch

from benchmarks.speed import __main__ as table
from benchmarks.speed import gpu, kernels, naive, scaling, steps
from benchmarks.speed.measure import interleave, machine
from benchmarks.speed.reference import reference_losses
from braindecode_gcmae.losses import topology_distillation_loss
from tests.tiny import FEW, NAMES, joint, student, teacher, windows


def shaken(module):
    """Weights of any size: fresh gains are zero and would hide the encoders."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def problem(module, n=4):
    x, index = torch.as_tensor(windows(n)), torch.arange(10, 10 + n)
    group = torch.arange(n) // 2
    generator = torch.Generator().manual_seed(4)
    keys = torch.randn(50, 5, generator=generator)
    module.queue.enqueue(keys, torch.arange(50) % 5)
    return x, index, group


# ------------------------------------------------------- like is compared with like
def test_the_batched_step_is_its_equations_window_by_window():
    module = shaken(joint())
    inputs = problem(module)
    ours, theirs = module(*inputs), reference_losses(module, *inputs)
    assert {
        "rec_teacher",
        "rec_student",
        "contrast_teacher",
        "contrast_student",
    } <= set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_both_have_the_same_gradients():
    module = shaken(joint())
    inputs, gradients = problem(module), []
    for loss in (module, lambda *inputs: reference_losses(module, *inputs)):
        module.zero_grad()
        output = loss(*inputs)
        sum(
            value for name, value in output.items() if name[:3] in ("rec", "con")
        ).backward()
        gradients.append(
            {
                n: p.grad.clone()
                for n, p in module.named_parameters()
                if p.grad is not None
            }
        )
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(g.abs().max() for g in gradients[0].values())
    for name, gradient in gradients[0].items():
        gap = (gradient - gradients[1][name]).abs().max()
        assert gap < 1e-4 * largest, name


def test_the_pairwise_formulation_is_the_loss():
    problem = naive.distillation_problem(6)
    ours = topology_distillation_loss(**problem, kernel="linear", temperature=1.0)
    theirs = naive.pairwise_topology_loss(*problem.values())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_chebyshev_row_compares_equal_layers():
    row = kernels._chebyshev(5, 3, 1, windows=2, dim=4)
    assert row["details"]["largest_difference"] < 1e-5
    assert row["details"]["ratio"] > 0


# ------------------------------------------------------------------------ the ruler
def test_turns_measure_what_takes_longer_as_longer():
    a, b = torch.randn(8, 8), torch.randn(256, 256)
    times = interleave(
        {"short": lambda: a @ a, "long": lambda: b @ b @ b}, seconds=0.01
    )
    assert times["short"] < times["long"]
    assert times["long, least"] <= times["long"]


def test_exponents_are_slopes():
    sizes = [1, 2, 4, 8]
    assert scaling.exponent(sizes, [3 * s**2 for s in sizes]) == pytest.approx(2)
    assert scaling.exponent(sizes, [5.0] * 4) == pytest.approx(0)


def test_results_name_the_machine_but_neither_host_nor_folder(tmp_path):
    import socket

    table.main(["--only", "size", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "speed_cpu.json").read_text())
    (row,) = result["parts"]["size"]["rows"]
    assert row["met"] and row["details"]["parameters"] <= 130_000
    text = (tmp_path / "speed_cpu.md").read_text()
    assert "parameters of the default student" in text
    for private in (socket.gethostname(), str(tmp_path), "/home", "/root"):
        assert private not in text + json.dumps(machine())


# ----------------------------------------------------------- the CUDA part, on the CPU
def test_without_cuda_the_script_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path)])["measured"] is False
    assert gpu.NO_CUDA in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_pair(monkeypatch):
    def pair(n=None, few=None, **sizes):
        return teacher(), student()

    monkeypatch.setattr(gpu, "pair", pair)
    monkeypatch.setattr(gpu, "cap", lambda n: NAMES)
    monkeypatch.setattr(gpu, "FEW", FEW)
    monkeypatch.setattr(gpu, "windows", lambda b, n=None: torch.as_tensor(windows(b)))


@pytest.mark.parametrize("kind", ["pretraining", "distillation"])
def test_each_step_of_the_cuda_part_trains_on_any_device(tiny_pair, kind):
    step = gpu.steps(6, 4, "cpu")[kind]
    model = step.joint if kind == "pretraining" else step.student
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert gpu.never_waits(step, "cpu")
    assert torch.isfinite(step())
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert gpu.flops(step) > 0
    assert torch.isfinite(gpu.with_autocast(step, "cpu")())


def test_distillation_leaves_the_teacher_alone(tiny_pair):
    step = gpu.steps(6, 4, "cpu")["distillation"]
    before = {name: value.clone() for name, value in step.teacher.state_dict().items()}
    step()
    for name, value in step.teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_compiled_step_is_the_same_step(tiny_pair):
    step = gpu.steps(6, 4, "cpu")["distillation"]
    twin = gpu.compiled(gpu.steps(6, 4, "cpu")["distillation"], backend="eager")
    torch.testing.assert_close(twin(), step(), rtol=1e-5, atol=1e-6)


def test_ceilings_loading_and_differences_are_measured(tiny_pair):
    found = gpu.ceilings("cpu", size=32, calls=1)
    assert set(found) == {
        "matmul_float32_tflops",
        "matmul_bf16_tflops",
        "copy_gb_per_s",
    }
    assert all(value > 0 for value in found.values())
    assert gpu.loading(2, 6, "cpu", n_batches=2) > 0
    assert gpu.difference("cpu", batch=2) == 0


def test_necessary_passes_are_those_of_a_step():
    """Graphs through encoders and decoders, counted in a step and in the reference."""

    def graphs(run, module):
        counts, handles = {}, []
        for name, part in module.named_modules():
            if name.endswith(("encoder", "decoder")):

                def count(_, args, name=name):
                    counts[name] = counts.get(name, 0) + len(args[0])

                handles.append(part.register_forward_pre_hook(count))
        run()
        for handle in handles:
            handle.remove()
        return counts

    module = joint()
    step = steps.PretrainingStep(module, torch.as_tensor(windows(4)))
    taken = graphs(step, module)
    assert taken == graphs(steps.necessary_passes(module, 4), module)
    assert sum(taken.values()) == 2 * (4 + 2 + 2) * 4
