"""The formulations that the kernels are compared with, and a probe of their memory."""

import sys

import torch

from braindecode_gcmae.losses import topology_distillation_loss

from .measure import forget_peak, resident


def pairwise_topology_loss(student, teacher, positive, negative, kept, *, eps=1e-3):
    """Topology distillation by (B, n, n, D) products, as its equations are read.

    Equal to ``topology_distillation_loss(kernel="linear", temperature=1)``.
    """
    n = student.shape[1]
    off = ~torch.eye(n, dtype=torch.bool, device=student.device)

    def rows(nodes):
        similarity = (nodes.unsqueeze(2) * nodes.unsqueeze(1)).sum(-1)
        return similarity.masked_fill(~off, -1e30).log_softmax(-1)

    log_q, log_p = rows(student), rows(teacher[:, kept].detach())
    p, q = log_p.exp(), log_q.exp()
    divergence = p * (log_p - log_q) - p + q

    def mean_over(pairs):
        pairs = pairs & off
        return (divergence * pairs).sum((1, 2)) / pairs.sum().clamp(min=1)

    return (mean_over(positive) / (mean_over(negative) + eps)).mean()


def distillation_problem(n: int, seed: int = 0, device="cpu", batch: int = 64) -> dict:
    """Nodes of some windows, m=128 teacher electrodes, D=64 and 128, and pairs."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(batch, n, 64, generator=generator) / 8
    teacher = torch.randn(batch, 128, 128, generator=generator) / 11
    linked = torch.rand(n, n, generator=generator) < 0.4
    linked = linked | linked.T
    return {
        "student_nodes": student.to(device).requires_grad_(),
        "teacher_nodes": teacher.to(device),
        "positive": linked.to(device),
        "negative": ~linked.to(device),
        "kept": torch.arange(n, device=device),
    }


def step(kind: str, problem: dict) -> None:
    """One forward and backward."""
    problem["student_nodes"].grad = None
    if kind == "ours":
        loss = topology_distillation_loss(**problem, kernel="linear", temperature=1.0)
    else:
        loss = pairwise_topology_loss(*problem.values())
    loss.backward()


if __name__ == "__main__":
    # A tiny problem first: what is loaded on first use is no memory of the loss.
    step(sys.argv[1], distillation_problem(4))
    problem = distillation_problem(int(sys.argv[2]))
    forget_peak()
    before = resident("VmRSS")
    step(sys.argv[1], problem)
    sys.stdout.write(f"{resident('VmHWM') - before}\n")
