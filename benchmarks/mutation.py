"""Mutants of the formulas: does a test notice every wrong loss and graph?

    pip install -e ".[mutation]"
    python -m benchmarks.mutation              # hours of one core, can be interrupted
    python -m benchmarks.mutation --again      # only the survivors of the last run

The mutants are cosmic-ray's, all of its operators without arguments, in every module of
``losses`` and ``graph``; type annotations are left alone, as they decide nothing. The
execution is ours, for cosmic-ray starts an interpreter a mutant: here one process
imports the libraries and forks for each, the child takes the mutated source in place of
the file and runs the tests that reach the changed line, fastest first, until one fails.
Linux and macOS: it forks.
"""

import argparse
import ast
import csv
import difflib
import gc
import importlib.abc
import importlib.util
import json
import linecache
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGE = "braindecode_gcmae"
TESTS = {
    "losses": ["tests/test_losses*.py", "tests/external/test_losses*.py"],
    "graph": ["tests/test_graph*.py", "tests/external/test_torch_geometric.py"],
}
LIMIT = 60  # seconds a mutant may take: then it hangs, which is noticed, too
COLUMNS = ["module", "line", "operator", "occurrence", "outcome", "test", "change"]


def modules():
    """Every source of the two packages that holds code."""
    for package in TESTS:
        for path in sorted((ROOT / PACKAGE / package).glob("*.py")):
            if path.name != "__init__.py":
                yield path


# --------------------------------------------------------------------- mutants
def annotations(source: str) -> list[tuple]:
    """(line, column) spans of the type annotations of a source."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                end = (part.end_lineno, part.end_col_offset)
                spans.append(((part.lineno, part.col_offset), end))
    return spans


def mutants(path: Path):
    """Yield (line, operator's name, occurrence, mutated source, changed lines)."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    source = path.read_text("utf-8")
    tree, typed = get_ast(source), annotations(source)
    for name in sorted(cosmic_ray.plugins.operator_names()):
        cls = cosmic_ray.plugins.get_operator(name)
        if cls.arguments() or name.endswith("NoOp"):
            continue
        places = [p for n in ast_nodes(tree) for p in cls().mutation_positions(n)]
        for occurrence, (start, _) in enumerate(places):
            if any(low <= tuple(start) < high for low, high in typed):
                continue
            mutated = mutate_code(source, cls(), occurrence)
            if mutated is not None and mutated != source:
                yield start[0], name.split("/")[-1], occurrence, mutated


def changed(source: str, mutated: str) -> str:
    """The changed lines, one of each."""
    lines = difflib.unified_diff(source.split("\n"), mutated.split("\n"), n=0)
    kept = [x for x in lines if x[:1] in "+-" and x[:3] not in ("+++", "---")]
    return " -> ".join(" ".join(x[1:].split()) for x in kept)


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source; what asks for its text gets that, too."""

    def __init__(self, path: Path, source: str):
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name, self.path, self.source = ".".join(parts), str(path), source
        lines = source.splitlines(keepends=True)
        linecache.cache[self.path] = (len(source), None, lines, self.path)

    def find_spec(self, name, path=None, target=None):
        """Only for the one module."""
        if name == self.name:
            return importlib.util.spec_from_loader(name, self, origin=self.path)

    def exec_module(self, module):
        """Run the other source under the file's name."""
        module.__file__ = self.path
        exec(compile(self.source, self.path, "exec"), module.__dict__)


# ----------------------------------------------------------------------- tests
class Chosen:
    """pytest plugin: some tests only, in an order, and which of them failed."""

    def __init__(self, wanted: dict):
        self.wanted, self.failed, self.seconds = wanted, "", Counter()

    def pytest_collection_modifyitems(self, items):
        """Leave the tests that matter, the fastest first."""
        if self.wanted:
            kept = [item for item in items if item.nodeid in self.wanted]
            items[:] = sorted(kept, key=lambda item: self.wanted[item.nodeid])

    def pytest_runtest_logreport(self, report):
        """Note durations and the first failure."""
        self.seconds[report.nodeid] += report.duration
        if report.failed and not self.failed:
            self.failed = report.nodeid


def run_tests(files: list, wanted: dict, *options) -> Chosen:
    """Run pytest in this process, silently."""
    import pytest

    chosen = Chosen(wanted)
    off = ("cacheprovider", "warnings", "unraisableexception", "threadexception")
    quiet = ["-x", "-q", *(part for name in off for part in ("-p", f"no:{name}"))]
    found = [str(path) for name in files for path in sorted(ROOT.glob(name))]
    code = pytest.main([*quiet, *options, *found], plugins=[chosen])
    if code and not chosen.failed:
        chosen.failed = f"(pytest exits with {int(code)})"
    return chosen


def in_child(work) -> str | None:
    """What ``work`` returns in a fork of this process; None if it took too long."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        signal.alarm(LIMIT)
        try:
            told = work()
        except BaseException as error:
            told = f"({type(error).__name__} before any test)"
        os.write(writer, told.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return told.decode() if status == 0 else None


def reach(package: str, folder: str) -> tuple[dict, dict]:
    """Which tests run which line, and how long each takes."""
    data, times = f"{folder}/{package}.coverage", f"{folder}/{package}.json"

    def measure():
        os.environ["COVERAGE_FILE"] = data
        options = [f"--cov={PACKAGE}.{package}", "--cov-context=test", "--cov-report="]
        chosen = run_tests(TESTS[package], {}, "-p", "pytest_cov", *options)
        Path(times).write_text(json.dumps(chosen.seconds))
        return chosen.failed

    global LIMIT
    LIMIT, before = 600, LIMIT
    failed = in_child(measure)
    LIMIT = before
    if failed != "":
        raise SystemExit(f"the tests fail without any mutant: {failed}")
    import coverage

    read = coverage.CoverageData(data)
    read.read()
    lines = {f: read.contexts_by_lineno(f) for f in read.measured_files()}
    return lines, json.loads(Path(times).read_text())


def judge(path: Path, line: int, mutated: str, lines: dict, seconds: dict) -> tuple:
    """('killed', the test that noticed), or ('survived', '')."""
    contexts = lines.get(str(path), {}).get(line, [])
    names = {context.split("|")[0] for context in contexts}
    # What runs at import, or where coverage cannot see, may matter to any test.
    wanted = {n: seconds.get(n, 0.0) for n in names} if "" not in names else {}

    def work():
        sys.meta_path.insert(0, Mutated(path, mutated))
        order = wanted or seconds
        return run_tests(TESTS[path.parent.name], order).failed or "-"

    told = in_child(work)
    if told is None:
        return "killed", "(too long, or died)"
    return ("survived", "") if told == "-" else ("killed", told)


# ---------------------------------------------------------------------- report
# Survivors that no documented input tells from the original: a part of the module's
# name, a pattern of the change, and why. Read and judged by hand.
EQUIVALENT = [
    ("", r"&(?=.*->.* \* )", "the product of two boolean masks is their conjunction"),
    ("", r"-> .*norm\.masked_fill\((dead|constant), 2\.0\)", "filled with 0 after it"),
    ("", r"masked_fill\((absent|~pairs), -?1", "what is filled is masked again later"),
    ("", r"-> .*\.any\((- 2|1|~1|\+1)\)\.any", "any over both axes, in either order"),
    ("", r"-> .*ones_like\(\w+\[\.\.\., -1\]", "the shape of any column is the same"),
    ("", r"-> .*dim=\+?1\)|divergence\.sum\(\+?1\)", "logits have two dimensions"),
    ("rows", r"LOWEST = - 1e", "the same number: 1e30 + 1 is 1e30"),
    ("contrastive", r"form >= ", "of the two forms only 'paper' is not below it"),
    ("contrastive", r"len\(negatives\) != 0", "a length is never negative"),
    ("contrastive", r"shape\[\+?1\]", "queries and negatives have two dimensions"),
    ("distillation", r"kernel (>= \"rbf|<= \"cos)", "the first, or last, of the names"),
    ("distillation", r"form >= \"ratio", "the other form left, 'log_ratio', is below"),
    ("reconstruction", r"form >= \"sce", "the other form, 'mse', is below it"),
    ("reconstruction", r"_form <= \"corr", "the other form, 'gram', is above it"),
    ("distillation", r"lru_cache", "how many projections are kept changes none"),
    ("distillation", r"\(kept < 0\) [+^]", "no row is on both sides of the range"),
    ("distillation", r"/ upper\.diagonal\(\)\.sign", "a sign is its own inverse"),
    ("distillation", r"in_features (>=|is) wide", "the larger is one of them"),
    ("distillation", r"dtype is (not )?torch\.bool", "there is one object per dtype"),
    ("formulas", r"shape\[(- 2|~1)\]|sum\((- 2|~1)\)", "square, or symmetric"),
    (
        "modules",
        r"__init__\(self, n_basis: int = 3[57](\)|, (scale|n_segments|n_nodes))",
        "an argument that all graphs have and this one does not use",
    ),
    ("modules", r"softmax\(mixture, -1", "the mixture has one dimension"),
    ("pairs", r"adjacency\.shape\[(- 2|- 0|1|~1|not 1|\+1)\]", "it is square"),
    ("pairs", r"(student|teacher) \+ |\] \+ bridged", "a sum of masks is their union"),
    ("pairs", r"strength != 0|T\) != 0", "neither is ever negative"),
    ("pairs", r"dtype is torch\.bool", "there is one object per dtype"),
    ("pairs", r"numel\(\) <= 0|numel\(\) < n", "never below, or never above"),
    ("formulas", r"degree != 0", "a degree is never negative"),
    ("formulas", r"len\(basis\) != order", "it grows by one up to the order"),
    ("formulas", r"transpose\(-1, 2\)", "the third of four axes is the last but one"),
    ("graph/mean", r"n_measured != 0", "a number of windows is not negative"),
]


def equivalent(row: dict) -> str:
    """Why a survivor is equivalent to the original; empty if it is not."""
    for module, pattern, why in EQUIVALENT:
        if module in row["module"] and re.search(pattern, row["change"]):
            return why
    return ""


def report(rows: list[dict]) -> str:
    """Counts by module, and every survivor."""
    alive = [row for row in rows if row["outcome"] == "survived"]
    lines = [
        "# Mutants of losses and graph",
        "",
        "Made by `python -m benchmarks.mutation`: cosmic-ray's operators on every "
        "module of the two packages but for type annotations, tests of these packages "
        "only. Outcome of each mutant, with the first test that noticed it: "
        "[mutation.csv](mutation.csv).",
        "",
        "| module | mutants | killed | survived | killed |",
        "|---|---:|---:|---:|---:|",
    ]
    total, left = (Counter(row["module"] for row in part) for part in (rows, alive))
    for name in [*sorted(total), "all"]:
        n = total[name] if name in total else len(rows)
        s = left[name] if name in total else len(alive)
        lines.append(f"| {name} | {n} | {n - s} | {s} | {100 * (n - s) / n:.1f} % |")
    same = [row for row in alive if equivalent(row)]
    lines += [
        "",
        f"Of the {len(alive)} survivors {len(same)} are equivalent: no input that the "
        "documentation allows tells them from the original. They count as survivors "
        "above.",
        "",
        "| module | line | change | equivalent because |",
        "|---|---:|---|---|",
    ]
    for row in alive:
        why = equivalent(row) or "**not equivalent**"
        change = row["change"].replace("|", "\\|")
        lines.append(f"| {row['module']} | {row['line']} | `{change}` | {why} |")
    return "\n".join(lines) + "\n"


def key(row: dict) -> tuple:
    """What a mutant is, whatever became of it."""
    return row["module"], row["operator"], int(row["occurrence"]), row["change"]


def main(arguments=None):
    """Go through all mutants that have no outcome yet; write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=str(RESULTS / "mutation.csv"))
    parser.add_argument("--only", default="", help="part of a module's path")
    again = "judge survivors anew, but those known to be equivalent"
    parser.add_argument("--again", action="store_true", help=again)
    given = parser.parse_args(arguments)
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(ROOT))
    preload()
    known = {}
    if Path(given.out).exists():
        with open(given.out, newline="") as file:
            known = {key(row): row for row in csv.DictReader(file)}
    folder, reached, rows = tempfile.mkdtemp(), {}, []
    for path in modules():
        module = path.relative_to(ROOT / PACKAGE).as_posix()
        source, began = path.read_text("utf-8"), time.perf_counter()
        if given.only not in module:
            rows += [row for row in known.values() if row["module"] == module]
            continue
        for line, operator, occurrence, mutated in mutants(path):
            row = {"module": module, "line": line, "operator": operator}
            row |= {"occurrence": occurrence, "change": changed(source, mutated)}
            old = known.get(key(row))
            anew = given.again and old and old["outcome"] == "survived"
            if old and (not anew or equivalent(row)):
                row |= {"outcome": old["outcome"], "test": old["test"]}
            else:
                package = path.parent.name
                if package not in reached:
                    reached[package] = reach(package, folder)
                told = judge(path, line, mutated, *reached[package])
                row["outcome"], row["test"] = told
            rows.append(row)
            if len(rows) % 20 == 0:
                store(given.out, rows, known)
        alive = sum(r["outcome"] == "survived" for r in rows if r["module"] == module)
        count = sum(r["module"] == module for r in rows)
        print(module, count, alive, round(time.perf_counter() - began), flush=True)
    store(given.out, rows)
    Path(given.out).with_suffix(".md").write_text(report(rows))


def store(out: str, rows: list[dict], known: dict | None = None) -> None:
    """Write the outcomes so far, and those of an earlier run not come to yet."""
    done = {key(row) for row in rows}
    later = [row for mutant, row in (known or {}).items() if mutant not in done]
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, *later])


def preload() -> None:
    """Import once what every child needs, and nothing of the package itself."""
    import coverage  # noqa: F401
    import hypothesis  # noqa: F401
    import scipy.signal
    import scipy.stats  # noqa: F401
    import torch
    import torch_geometric.nn
    import torch_geometric.utils  # noqa: F401

    torch.set_num_threads(1)
    for part in (*TESTS, "models"):
        importlib.import_module(f"{PACKAGE}.{part}")
    for name in [n for n in sys.modules if n.split(".")[0] == PACKAGE]:
        del sys.modules[name]  # a child imports its own
    gc.freeze()  # or each child would look through, and so copy, all of this memory


if __name__ == "__main__":
    main()
