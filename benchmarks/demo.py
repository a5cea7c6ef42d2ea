"""The whole chain on one page: pretrain, teach, distil, compare on unseen people.

``make demo`` runs it on simulated recordings, ``make demo DATA=physionet`` on
PhysioNet's; figures, table and raw scores go to ``--output``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a script, from any folder
    sys.path.insert(0, str(ROOT))

from benchmarks.demonstration.data import DataMissing, load  # noqa: E402


def parse(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="simulated", help="simulated or physionet")
    parser.add_argument("--output", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--electrodes", help="the student's, e.g. motor-8, headband-8")
    parser.add_argument("--seeds", type=int, default=1, help="seeds, a split each")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument(
        "--record",
        action="store_true",
        help="also write benchmarks/results/demo_<data>....csv and .md; seeds that are "
        "there, of the same code and settings, are not run again",
    )
    return parser.parse_args(arguments)


def configuration(study, settings):
    """Twelve digits that change with anything that decides the results."""
    windows = [study.name, list(study.X.shape), study.people, study.pool, study.few]
    text = json.dumps([windows, asdict(settings)], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    package = ROOT / "braindecode_gcmae"
    for path in sorted(package.rglob("*.py")):  # the code, except what only shows it
        part = path.relative_to(package).parts[0].removesuffix(".py")
        if part not in ("viz", "datasets", "export", "streaming"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run(study, *, output, seeds=1, first=0, settings=None, record=None):
    """Run all seeds that are missing, and write table, scores and figures.

    Parameters
    ----------
    study : Study
    output : path
        Folder for ``scores.csv``, ``summary.md`` and figures.
    seeds, first : int
        How many seeds, and the first of them.
    settings : Settings, optional
    record : path, optional
        CSV that keeps the rows of finished seeds.

    Returns
    -------
    rows : list of dict
    """
    from benchmarks.demonstration import report
    from benchmarks.demonstration.stages import Demonstration, Settings

    settings = settings or Settings()
    config = configuration(study, settings)
    rows = report.read_rows(record, config) if record else []
    done = {int(row["seed"]) for row in rows}
    last = None
    for seed in [s for s in range(first, first + seeds) if s not in done]:
        last = Demonstration(study, seed, settings).run()
        if record:  # another process may have added seeds meanwhile
            rows = report.read_rows(record, config)
        rows = rows + report.person_rows(last, config)
        if record:
            report.write_rows(record, rows)
    text = report.summary(rows, study, settings)
    report.write_rows(Path(output) / "scores.csv", rows)
    Path(output, "summary.md").write_text(text)
    if record:
        Path(record).with_suffix(".md").write_text(text)
    figures = report.draw(rows, last, output) if last is not None else []
    print(f"\n{report.table(rows)}\n\n{report.comparisons(rows)}\n")
    written = [Path(output) / "scores.csv", Path(output) / "summary.md", *figures]
    print("Written: " + ", ".join(str(path) for path in written))
    return rows


def main(arguments=None):
    """Give the exit code: 2 where the data cannot be had."""
    options = parse(arguments)
    # braindecode builds a montage that MNE is about to rename
    warnings.filterwarnings("ignore", message="Montage name", category=FutureWarning)
    begin, used = time.perf_counter(), time.process_time()
    print("Reading the recordings ...", flush=True)
    try:
        study = load(options.data, options.electrodes)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    name = "_".join(filter(None, ("demo", options.data, options.electrodes)))
    record = ROOT / "benchmarks" / "results" / f"{name}.csv"
    run(
        study,
        output=options.output,
        seeds=options.seeds,
        first=options.first,
        record=record if options.record else None,
    )
    wall, cpu = time.perf_counter() - begin, time.process_time() - used
    print(f"{wall:.0f} s in all, {cpu:.0f} s of processor time.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
