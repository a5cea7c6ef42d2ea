"""Command line: ``python -m benchmarks.which_electrodes``."""

from __future__ import annotations

import logging
from pathlib import Path

from benchmarks.options import asked, study_parser
from benchmarks.rows import write
from benchmarks.which_electrodes.choice import TASK
from benchmarks.which_electrodes.figure import figure
from benchmarks.which_electrodes.report import by_setting, markdown
from benchmarks.which_electrodes.study import COLUMNS, Fold, gathered, run, shard_paths


def parser():
    """Give the command line."""
    out = study_parser("which_electrodes", teacher_size="default", threads=0)
    out.add_argument("--regime", choices=("few", "many"), default="few")
    out.add_argument("--windows", help="what benchmarks.run prepare wrote")
    return out


def places(options):
    """Folds that the command line asks for, those of its shard alone."""
    setting = options.regime, options.teacher_size
    return [Fold(*setting, seed, fold) for seed, fold in asked(options)]


def report(path):
    """Write table and figures from the rows that there are, shards gathered."""
    path, rows = Path(path), gathered(path)
    if not rows:
        raise SystemExit(f"no finished fold in {path.name}")
    if shard_paths(path):
        write(path, rows, COLUMNS)
    path.with_suffix(".md").write_text(markdown(rows))
    settings = by_setting(rows)
    for setting, own in settings.items():
        name = path.stem if len(settings) == 1 else "_".join((path.stem, *setting))
        figure(own, path.with_name(f"{name}.png"))


def main(arguments=None):
    """Run what is asked for, then write table and figure; a shard leaves them be."""
    options = parser().parse_args(arguments)
    logging.getLogger("braindecode").setLevel(logging.ERROR)
    if not options.table:
        from benchmarks.prepare import load_or_prepare

        if options.threads:
            import torch

            torch.set_num_threads(options.threads)
        windows = load_or_prepare(TASK, path=options.windows)
        settings = {"shard": options.shard, "device": options.device}
        run(windows, places(options), options.out, **settings)
    if options.table or not options.shard:
        report(options.out)


if __name__ == "__main__":
    main()
