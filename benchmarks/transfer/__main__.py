"""Command line: ``python -m benchmarks.transfer``."""

from __future__ import annotations

import logging

from benchmarks.cells import Budget
from benchmarks.options import asked, study_parser
from benchmarks.transfer.figure import figure
from benchmarks.transfer.report import markdown
from benchmarks.transfer.settings import SETTINGS
from benchmarks.transfer.study import LABELLED_PEOPLE, read, run


def parser():
    """Give the command line."""
    out = study_parser("transfer", teacher_size="small", threads=1)
    names = [setting.name for setting in SETTINGS]
    out.add_argument("--settings", nargs="+", choices=names, default=names)
    out.add_argument("--labelled", nargs="+", type=int, default=list(LABELLED_PEOPLE))
    out.add_argument("--pretraining-epochs", type=int, default=30)
    return out


def main(arguments=None):
    """Run what is asked for, then write table and figure."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for name in ("braindecode", "braindecode_gcmae"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not options.table:
        import torch

        torch.set_num_threads(options.threads)
        size = {"teacher_size": options.teacher_size}
        budget = Budget(pretraining_epochs=options.pretraining_epochs, **size)
        chosen = [setting for setting in SETTINGS if setting.name in options.settings]
        what = {"settings": chosen, "counts": options.labelled}
        run(asked(options), budget, options.out, device=options.device, **what)
    rows = read(options.out)
    if not rows:
        raise SystemExit(f"{options.out} has no finished cells")
    options.out.with_suffix(".md").write_text(markdown(rows))
    figure(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
