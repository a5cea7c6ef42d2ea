"""Tables of scores for the pages, made from the raw results at every build.

A page that quotes numbers by hand goes on quoting them when they have changed. Here
each file of ``benchmarks/results`` becomes ``generated/scores_<name>.inc``, which the
pages include.
"""

from pathlib import Path

STUDIES = ("main", "tasks")


def cells(rows):
    """Method -> summary, of the methods that have been run for all the people."""
    from benchmarks.protocol import TASKS
    from benchmarks.tables import one_setting, summarise

    found = {}
    for method, own in rows.items():
        try:
            one_setting(own)
        except ValueError:  # half of it made by another state of the code
            continue
        found[method] = summarise(own, TASKS[own[0]["task"]].metric)
    most = max((s["n_people"] for s in found.values()), default=0)
    found = {method: s for method, s in found.items() if s["n_people"] == most}
    return dict(sorted(found.items(), key=lambda item: -item[1]["mean"]))


def shown(method):
    """The name of a method in the README's tables."""
    from benchmarks.readme import ALL

    names = {name: label for label, name in ALL.items()}
    return {**names, "TS+LR": "tangent space + LR, not re-centred"}.get(method, method)


def table(place, found, metric, worth=None):
    """One reST table of a task, an electrode set and a number of labels.

    ``worth`` is the summary of the student from scratch over several starts, with
    which methods are compared where there is one.
    """
    from benchmarks.readme import MEAN, SCRATCH
    from benchmarks.tables import chance_level, compare

    task, electrodes, regime = place
    first = next(iter(found.values()))
    reference = alone = found.get(SCRATCH)
    title = f"{task}, {electrodes}, {regime} labels, {first['n_people']} people"
    if worth and alone:  # a run is as good or bad as chance made it: its mean first
        reference = {**worth, "n_parameters": alone["n_parameters"]}
        found = {f"{MEAN} {worth['n_starts']} starts": reference, **found}
    if metric == "accuracy":
        title += f"; guessing: {100 * chance_level(first['n_windows']):.1f} %"
    lines = [
        f".. csv-table:: {title}",
        f'    :header: method, "{metric} %", "95 % interval", "against scratch", '
        "parameters, seeds",
        "",
    ]
    for method, s in found.items():
        score, low, high = (f"{100 * s[k]:.1f}" for k in ("mean", "low", "high"))
        gap = ""
        if metric == "accuracy" and reference and s is not reference:
            difference, interval, _ = compare(s, reference)
            gap = "{:+.1f} ({:+.1f} to {:+.1f})".format(
                *(100 * value for value in (difference, *interval))
            )
        lines.append(
            f'    "{shown(method)}", {score}, {low} to {high}, "{gap}", '
            f'"{s["n_parameters"]:,}", {s["n_seeds"]}'
        )
    return "\n".join([*lines, ""])


def ablation_tables(setting, places, worth=lambda place: None):
    """One reST table a family of ablations and electrode set, below their setting.

    ``worth`` gives the summary of the student from scratch over several starts.
    """
    from benchmarks.ablations import HEAD, variants

    lines = [f"*{setting}*", ""]
    for place, methods in places.items():
        _, electrodes, regime = place
        for family, rows in variants(methods, worth(place)).items():
            lines += [
                f".. csv-table:: {family}: {electrodes}, {regime} labels",
                f"    :header: {', '.join(HEAD)}",
                "",
            ]
            for row in rows:
                lines.append("    " + ", ".join(f'"{cell}"' for cell in row))
            lines.append("")
    return "\n".join(lines)


def missing_tables(rows):
    """Tables of accuracy by number of failed electrodes, one a pattern."""
    from benchmarks.missing import DROPPED, PATTERNS, by_person, losses

    found, lines = by_person(rows), []
    for data in dict.fromkeys(row["data"] for row in rows):
        for pattern in PATTERNS:
            n_people = len({r["person"] for r in rows if r["data"] == data})
            numbers = ", ".join(f"{n} of 16" for n in DROPPED)
            lines += [
                f".. csv-table:: {data}, {pattern}: accuracy %, {n_people} people",
                f"    :header: network, {numbers}, lost at 4",
                "",
            ]
            for (where, name), patterns in found.items():
                if where == data:
                    means = (
                        f"{100 * sum(s.values()) / len(s):.1f}" if s else ""
                        for s in (patterns[pattern].get(n) for n in DROPPED)
                    )
                    lost = 100 * losses(patterns[pattern]).mean()
                    lines.append(f'    "{name}", {", ".join(means)}, {lost:.1f}')
            lines.append("")
    return "\n".join(lines)


PURPOSE = {
    "10-10-64": "the 64 of PhysioNet's recordings",
    "10-10-32": "a 32-channel cap in the 10-10 system",
    "10-20-19": "the 10-20 system, ears left out",
    "10-20-16": "the 10-20 system without the midline",
    "10-20-8": "spread over the head",
    "10-20-4": "centre and back of the head",
    "motor-8": "over the motor strip",
    "headband-8": "what a headband reaches",
    "rim-4": "temples and behind the ears",
    "no-central-16": "nothing over the motor strip",
    "embarc-54": "the channels of EMBARC",
    "embarc-31": 'the "32" of the public code',
    "embarc-24": "a subset of EMBARC",
    "embarc-12": 'the "16" of the public code',
    "embarc-8": "a subset of EMBARC",
    "egi-128": "the EGI net of the Healthy Brain Network",
    "hbn-64": "every second of them",
    "hbn-32": "every fourth of them",
}


def preset_table():
    """One reST table of the montage presets and their electrodes."""
    from braindecode_gcmae import montage_preset
    from braindecode_gcmae.montage.names import PRESETS

    lines = [
        ".. csv-table::",
        "    :header: name, electrodes, what it is, names",
        "    :widths: 15 8 27 50",
        "",
    ]
    for name in PRESETS:
        names = montage_preset(name)
        what = PURPOSE[name].replace('"', '""')
        # numbers of a net: where they begin and end says all
        numbered = names[0].startswith("E")
        text = " ".join([*names[:2], "...", names[-1]] if numbered else names)
        lines.append(f'    ``{name}``, {len(names)}, "{what}", "{text}"')
    return "\n".join([*lines, ""])


def replace(target, text):
    """Write a file, if it is not so already."""
    if not target.exists() or target.read_text("utf-8") != text:
        target.write_text(text, "utf-8")


def write(app):
    """Write the tables before Sphinx reads the pages."""
    from benchmarks.ablations import SETTINGS, scratch_at, study
    from benchmarks.cells import read_rows
    from benchmarks.missing import read
    from benchmarks.protocol import TASKS
    from benchmarks.starts import TASK
    from benchmarks.tables import conditions, latest_code, one_device

    results = Path(app.srcdir).parent / "benchmarks" / "results"
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for name in STUDIES:
        source, parts = results / f"{name}.csv", []
        rows = read_rows(source) if source.exists() else []
        rows = one_device(latest_code(rows))
        for place, methods in conditions(rows).items():
            found = cells(methods)
            if found:
                worth = scratch_at(place) if place[0] == TASK else None
                parts.append(table(place, found, TASKS[place[0]].metric, worth))
        text = "\n".join(parts) or "Not run yet.\n"
        replace(folder / f"scores_{name}.inc", text)
    parts = [
        ablation_tables(title, study(names), scratch_at)
        for title, names in SETTINGS.items()
    ]
    replace(folder / "scores_ablations.inc", "\n".join(parts))
    rows = read(results / "missing.csv")
    text = missing_tables(rows) if rows else "Not run yet.\n"
    replace(folder / "scores_missing.inc", text)
    replace(folder / "presets.inc", preset_table())


def setup(app):
    """Connect to Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
