"""The speed benchmarks compare like with like; their CUDA part runs without CUDA."""

import json
import signal
import subprocess
import time
from functools import partial

import pytest
import torch

from benchmarks.speed import __main__ as table
from benchmarks.speed import device, fits, gpu, gpu_rows, kernels, naive, scaling, steps
from benchmarks.speed.gpu_table import markdown
from benchmarks.speed.measure import interleave, machine, row
from benchmarks.speed.reference import reference_losses
from braindecode_gcmae.losses import topology_distillation_loss
from tests.tiny import FEW, NAMES, joint, small, student, teacher, windows


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


def test_a_step_in_bfloat16_is_one_of_the_pretrainer_in_bfloat16():
    x, met = torch.as_tensor(windows(4)), []

    def total(half):
        module = joint()

        def loss(*inputs):
            met.append(torch.is_autocast_enabled("cpu"))
            return module(*inputs)

        with torch.random.fork_rng():
            torch.default_generator.manual_seed(0)  # of the keys in the queue
            step = steps.PretrainingStep(module, x, loss, half=half)
        return float(step().detach())

    full, half = total(False), total(True)
    assert met == [False, True]
    assert half != full and half == pytest.approx(full, rel=0.02)


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
    found = kernels.chebyshev_row(5, 3, 1, windows=2, dim=4)
    assert found["details"]["largest_difference"] < 1e-5
    assert found["details"]["ratio"] > 0


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

    threads = str(torch.get_num_threads())
    table.main(["--only", "size", "--out", str(tmp_path), "--threads", threads])
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

    for module in (gpu_rows, steps, fits):
        monkeypatch.setattr(module, "pair", pair, raising=False)
        monkeypatch.setattr(module, "cap", lambda n: NAMES)
        monkeypatch.setattr(
            module, "windows", lambda b, n=None: torch.as_tensor(windows(b))
        )
    for module in (gpu_rows, fits):
        monkeypatch.setattr(module, "FEW", FEW)
    for model, made in ((steps.GCMAETeacher, teacher), (steps.GCMAEStudent, student)):
        paper = classmethod(lambda cls, made=made, **_: made())
        monkeypatch.setattr(model, "paper", paper)


@pytest.fixture
def quick(monkeypatch, tiny_pair):
    """Everything so small that its time means nothing."""
    once = partial(device.seconds_per_call, calls=1, rounds=1)
    monkeypatch.setattr(gpu_rows, "seconds_per_call", once)
    monkeypatch.setattr(gpu, "ceilings", partial(device.ceilings, size=32, calls=1))
    monkeypatch.setattr(
        gpu_rows, "in_turns", partial(device.in_turns, seconds=0.0, rounds=1)
    )
    monkeypatch.setattr(gpu_rows, "repeated", partial(device.repeated, seconds=0.0))
    monkeypatch.setattr(kernels, "TOPOLOGY", ((4, 1),))
    monkeypatch.setattr(kernels, "CHEBYSHEV", [(5, 3, 1)])
    few = {
        "topology": [2],
        "pretraining": [4],
        "distillation": [4],
        "student": [1, 2],
        "equations": [2],
    }
    monkeypatch.setattr(gpu_rows, "BATCHES", few)


def setting(folder, seconds=1000.0):
    budget = gpu.Budget(time.time() + seconds)
    return gpu.Setting(gpu.Report(folder), budget, "cpu", batch=4, sizes=(6,))


@pytest.mark.parametrize("kind", ["pretraining", "distillation"])
def test_each_step_of_the_cuda_part_trains_on_any_device(tiny_pair, kind):
    step = gpu_rows.steps(6, 4, "cpu")[kind]
    assert device.learns(step, step.optimizer)
    assert not device.learns(lambda: torch.ones(()), step.optimizer)
    assert not device.learns(lambda: step() * torch.inf, step.optimizer)
    assert device.never_waits(step, "cpu")["never_waits"] is None  # nobody looked
    counts = gpu_rows.counted(step)
    assert counts["gflop"] > 0 and counts["gbyte"] > 0
    assert torch.isfinite(device.with_autocast(step, "cpu")())


def test_distillation_leaves_the_teacher_alone(tiny_pair):
    step = gpu_rows.steps(6, 4, "cpu")["distillation"]
    before = {name: value.clone() for name, value in step.teacher.state_dict().items()}
    step()
    for name, value in step.teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_compiled_step_is_the_same_step(tiny_pair):
    step = gpu_rows.steps(6, 4, "cpu")["distillation"]
    twin = gpu_rows.steps(6, 4, "cpu")["distillation"]
    twin = device.compiled(twin, backend="eager")
    torch.testing.assert_close(twin(), step(), rtol=1e-5, atol=1e-6)


def test_a_step_that_was_made_before_can_be_captured(tiny_pair):
    step = gpu_rows.steps(6, 4, "cpu")["distillation"]
    step()
    device.capturable(step.optimizer)
    assert all(group["capturable"] for group in step.optimizer.param_groups)
    for parameter, state in step.optimizer.state.items():
        assert state["step"].device == parameter.device and state["step"] == 1


def test_ceilings_loading_and_differences_are_measured(tiny_pair):
    found = device.ceilings("cpu", size=32, calls=1)
    assert set(found) == {
        "matmul_float32_tflops",
        "matmul_bf16_tflops",
        "copy_gb_per_s",
    }
    assert all(value > 0 for value in found.values())
    assert gpu_rows.loading(2, 6, "cpu", n_batches=2) > 0
    assert gpu_rows.difference("cpu", batch=2) == 0


# ------------------------------------------------------------- bytes that are moved
def bytes_of(function):
    with device.Traffic() as traffic:
        function()
    return traffic.bytes


def test_traffic_is_what_is_read_and_written():
    n = 1000
    a, b = torch.ones(n), torch.ones(n)
    assert bytes_of(lambda: a + b) == 12 * n
    assert bytes_of(lambda: a.add_(b)) == 12 * n
    assert bytes_of(lambda: a.copy_(b)) == 8 * n
    assert bytes_of(lambda: a.zero_()) == 4 * n
    assert bytes_of(lambda: torch.empty(n)) == 0
    assert bytes_of(lambda: torch.zeros_like(a)) == 4 * n
    assert bytes_of(lambda: a.to(torch.bfloat16)) == 6 * n
    assert bytes_of(lambda: torch.cat([a, b])) == 16 * n
    assert bytes_of(lambda: torch._foreach_add_([a, b], [b, a])) == 24 * n


def test_views_and_expanded_dimensions_are_no_traffic():
    a = torch.ones(10, 20)
    assert bytes_of(lambda: a.T[2:].unsqueeze(0).expand(5, -1, -1)) == 0
    wide = torch.ones(1, 20).expand(10, 20)
    assert bytes_of(lambda: a + wide) == 4 * (200 + 20 + 200)


def test_traffic_of_a_backward_pass_is_counted():
    a = torch.ones(10, 20, requires_grad=True)
    forward = bytes_of(lambda: (a * a).sum())
    assert bytes_of(lambda: (a * a).sum().backward()) > 2 * forward


# --------------------------------------------------------------- clocks of a device
def test_rounds_of_a_device_are_the_times_of_one_call():
    a, b = torch.randn(8, 8), torch.randn(256, 256)
    functions = {"short": lambda: a @ a, "long": lambda: b @ b @ b}
    times = device.in_turns(functions, device="cpu", seconds=0.01)
    assert times["short"] < times["long"]
    assert times["long, least"] <= times["long"]
    slow = device.repeated({"wait": lambda: time.sleep(0.01)}, device="cpu", seconds=0)
    assert 0.01 <= slow["wait"] < 1


# --------------------------------------------------- what fails, and what is left out
def test_a_failing_row_says_why_and_the_others_go_on(tmp_path, monkeypatch):
    good = partial(row, "good", "a | b", ">= 1x", "2x", True)

    def bad():
        raise RuntimeError("no kernel in /opt/secret/cuda.so\nmore")

    monkeypatch.setattr(
        gpu, "ratios", lambda where: {"1st": good, "bad": bad, "3rd": good}
    )
    s = setting(tmp_path)
    gpu.references(s)
    first, second, third = s.report.result["ratios"]
    assert first["met"] and third["met"]
    assert second["failed"].startswith("RuntimeError: no kernel in cuda.so (test_sp")
    stored = (tmp_path / "speed_gpu.json").read_text("utf-8")
    assert json.loads(stored) == s.report.result
    text = (tmp_path / "speed_gpu.md").read_text("utf-8")
    assert "| good | a / b | >= 1x | 2x | yes |" in text
    assert "| bad |  |  | failed: RuntimeError" in text and "secret" not in text


def test_a_spent_budget_leaves_rows_out(tmp_path, quick):
    s = setting(tmp_path, seconds=0.0)
    result = gpu.measure(s, list(gpu.PARTS))
    assert len(result["steps"]) == 14 and len(result["ratios"]) == 9
    for found in [*result["steps"], *result["ratios"], result["loader"]]:
        assert found["failed"] == gpu.NO_TIME


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs alarms")
def test_a_row_that_never_ends_is_stopped():
    budget = gpu.Budget(time.time() + 100)
    found = budget.attempt({"what": "long"}, lambda: time.sleep(60), longest=0.05)
    assert found["failed"].startswith("TimeoutError") and budget.left() > 60


def test_each_row_is_a_line(tmp_path, quick):
    s = setting(tmp_path)
    result = gpu.measure(s, ["eager", "basics", "references", "loader"])
    modes = {(r["step"], r["mode"]) for r in result["steps"] if r["learns"]}
    assert modes == {(kind, mode) for kind in gpu.KINDS for mode in gpu.EAGER}
    failed = [found["name"] for found in result["ratios"] if "failed" in found]
    graphs = [f"student, batch {batch}, CUDA graphs" for batch in (1, 2)]
    assert failed == ([] if torch.cuda.is_available() else graphs)
    assert "failed" not in {*result["ceilings"], *result["cpu_and_gpu"]}
    text = markdown(result)
    assert text == (tmp_path / "speed_gpu.md").read_text("utf-8")
    n_rows = len(result["steps"]) + len(result["ratios"])
    assert sum(line.startswith("| ") for line in text.splitlines()) == n_rows + 4
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {13, 6}
    again = dict(result["steps"][1], windows_per_s=1.0)
    s.report.add("steps", again, ("step", "electrodes", "mode"))
    assert len(s.report.result["steps"]) == 4 and s.report.result["steps"][-1] == again


def test_shares_are_of_the_ceilings(quick):
    top = {"matmul_bf16_tflops": 2.0, "copy_gb_per_s": 4.0}
    counts = {"gflop": 1e3, "gbyte": 8.0}
    found = gpu_rows.step_row("distillation", 6, "bf16", 4, "cpu", top, counts)
    seconds = found["milliseconds"] / 1e3
    assert found["windows_per_s"] == pytest.approx(4 / seconds)
    assert found["share_of_matmul"] == pytest.approx(0.5 / seconds)
    assert found["share_of_copy"] == pytest.approx(2 / seconds)


@pytest.mark.parametrize("kind", ["pretraining", "distillation"])
def test_a_fit_is_timed_between_the_ends_of_its_later_batches(
    tiny_pair, monkeypatch, kind
):
    monkeypatch.setattr(fits, "BATCHES", 7)
    sizes = {**small("teacher"), **small("student"), "queue_size": 8}
    sizes = sizes if kind == "pretraining" else {}
    found = fits.fit_row(kind, 6, "fit", 2, "cpu", **sizes)
    assert found["windows_per_s"] == pytest.approx(2e3 / found["milliseconds"])
    assert found["learns"] and found["tflops"] is None
    clock = fits.BatchClock()
    clock.ends_ = [0.0, 9.0, 9.5, 20.0, 30.0, 31.0, 33.0, 36.0]
    assert clock.seconds() == 2.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it works")
def test_a_capture_without_cuda_is_a_failed_row(tmp_path, quick, monkeypatch):
    monkeypatch.setitem(gpu.STEPS, "graphs", (["distillation"], ["bf16, graph"]))
    (found,) = gpu.measure(setting(tmp_path), ["graphs"])["steps"]
    assert found["failed"] and found["mode"] == "bf16, graph"


def test_a_part_in_another_process_is_read_back(tmp_path, monkeypatch):
    s = setting(tmp_path)
    names = gpu.step_names("graphs", s.sizes)

    def child(command, stderr, timeout):
        assert command[command.index("--only") + 1] == "graphs"
        other = gpu.Report(tmp_path, fresh=False)
        other.add("steps", {**names[0], "failed": "its own reason"}, tuple(names[0]))
        stderr.write("Traceback\nSegmentation fault in /usr/lib/cuda\n")
        return subprocess.CompletedProcess(command, 139)

    monkeypatch.setattr(gpu.subprocess, "run", child)
    what = {"step": "pretraining", "electrodes": 6, "mode": "float32"}
    other_part = {**what, "failed": "no time"}
    earlier = [{**names[1], "failed": "earlier"}, other_part]
    s.report.put(gpu="a device", steps=earlier)
    gpu.in_process(s, "graphs")
    kept, own, lost = s.report.result["steps"]
    assert kept == other_part
    assert own["failed"] == "its own reason"
    assert lost["failed"] == "its process ended with 139: Segmentation fault in cuda"
    assert s.report.result["gpu"] == "a device"


def test_all_references_are_asked():
    names = list(gpu_rows.ratios("cpu"))
    assert len(names) == len(set(names)) == 4 + 6 + 2 + 2 + 6 + 2


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


@pytest.mark.filterwarnings("ignore")
def test_the_row_of_distillation_is_made_of_steps_that_run():
    turns = partial(interleave, seconds=0.0, rounds=1)
    (made,) = steps.distillation(batch=4, turns=turns)
    assert "distillation step" in made["what"] and float(made["measured"][:-1]) > 0
