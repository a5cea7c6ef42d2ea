"""Measure the table: ``python -m benchmarks.speed [--threads 2] [--only NAME ...]``."""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch

from . import inference, kernels, scaling, steps
from .measure import machine

PARTS = {
    "topology": kernels.topology_distillation,
    "welch": kernels.welch,
    "chebyshev": kernels.chebyshev,
    "pretraining": steps.pretraining,
    "pretraining-bfloat16": steps.pretraining_in_bfloat16,
    "distillation": steps.distillation,
    "equations": steps.against_equations,
    "equations-bfloat16": steps.against_equations_in_bfloat16,
    "latency": inference.latency,
    "latency-compiled": inference.latency_compiled,
    "throughput": inference.throughput,
    "size": inference.size,
    "scaling": scaling.scaling,
    "import": inference.import_time,
}


def markdown(result: dict) -> str:
    """The table, and the machine it was measured on, in words."""
    lines = [
        "# Speed on the CPU",
        "",
        "Medians of five rounds, in turns with the reference, in one process. An "
        "exponent of at most 1 counts as met up to 1.1.",
        "",
        "| what | reference | goal | measured | met |",
        "|---|---|---|---|---|",
    ]
    for part in result["parts"].values():
        for r in part["rows"]:
            cells = [r["what"], r["reference"], r["goal"], r["measured"]]
            lines.append(
                "| " + " | ".join([*cells, "yes" if r["met"] else "no"]) + " |"
            )
    lines += ["", "| part | threads | load when it began |", "|---|---|---|"]
    for name, part in result["parts"].items():
        where = part["machine"]
        lines.append(f"| {name} | {where['threads']} | {where['load_before']} |")
    where = {k: v for k, v in where.items() if k not in ("threads", "load_before")}
    facts = ", ".join(f"{k} {v}" for k, v in where.items())
    return "\n".join([*lines, "", f"Machine: {facts}.", ""])


def main(arguments=None) -> None:
    """Measure, part by part; each part is stored when it is done."""
    parser = argparse.ArgumentParser(prog="benchmarks.speed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    file = options.out / "speed_cpu.json"
    result = json.loads(file.read_text("utf-8")) if file.exists() else {"parts": {}}
    for name in options.only:
        where = machine()
        rows = PARTS[name]()
        result["parts"][name] = {"rows": rows, "machine": where}
        order = [part for part in PARTS if part in result["parts"]]
        result["parts"] = {part: result["parts"][part] for part in order}
        options.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False), "utf-8")
        file.with_suffix(".md").write_text(markdown(result), "utf-8")
        for r in rows:
            sys.stdout.write(f"{r['what']}: {r['measured']} (goal {r['goal']})\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
