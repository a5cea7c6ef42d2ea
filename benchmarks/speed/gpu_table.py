"""The CUDA part's result in words: two tables, one line a row."""

COLUMNS = {  # title: key, format
    "windows/s": ("windows_per_s", "{:,.0f}"),
    "ms": ("milliseconds", "{:.2f}"),
    "TFLOP/s": ("tflops", "{:.2f}"),
    "of matmul": ("share_of_matmul", "{:.1%}"),
    "GB/s": ("gb_per_s", "{:,.0f}"),
    "of copy": ("share_of_copy", "{:.0%}"),
    "peak MB": ("peak_mb", "{:,.0f}"),
    "never waits": ("never_waits", "{}"),
    "learns": ("learns", "{}"),
}


def markdown(result: dict) -> str:
    """The result as two tables, and what they were measured on."""
    lines = ["# Speed on a GPU", "", f"{result.get('gpu', 'Device unknown')}.", ""]
    lines += _ceilings(result.get("ceilings", {"failed": "not measured"}))
    lines += _equality(result.get("cpu_and_gpu", {"failed": "not measured"}))
    lines += _loader(result.get("loader", {"failed": "not measured"}))
    lines += ["", "## Training steps", ""]
    lines += [
        f"Batches of {result.get('batch')}; TFLOP of the matrix products, GB that the "
        "eager operations read and write, over the time of a step in its mode.",
        "",
        _line("step", "electrodes", "mode", *COLUMNS),
        _line(*["---"] * (3 + len(COLUMNS))),
    ]
    lines += [_step(found) for found in result["steps"]]
    lines += ["", "## Against references", "", "Medians of rounds, in turns.", ""]
    lines += [_line("what", "reference", "goal", "measured", "met")]
    lines += [_line(*["---"] * 5)]
    lines += [_ratio(found) for found in result["ratios"]]
    facts = result.get("machine", {}).items()
    facts = ", ".join(f"{name} {value}" for name, value in facts)
    return "\n".join([*lines, "", f"Machine: {facts}.", ""])


def _line(*cells) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _ceilings(top: dict) -> list[str]:
    if "failed" in top:
        return [f"- Ceilings: failed, {top['failed']}"]
    single, half = top["matmul_float32_tflops"], top["matmul_bf16_tflops"]
    return [
        f"- Ceilings, measured: products of matrices {single:.1f} TFLOP/s in float32 "
        f"(TF32 off), {half:.0f} in bf16; copies {top['copy_gb_per_s']:,.0f} GB/s, "
        "read and written."
    ]


def _equality(found: dict) -> list[str]:
    if "failed" in found:
        return [f"- CPU and GPU: failed, {found['failed']}"]
    said = "equal to 1e-4" if found["equal_to_1e-4"] else "not equal to 1e-4"
    gap = found["largest_difference"]
    return [f"- CPU and GPU: largest difference of logits {gap:.1e}, {said}."]


def _loader(found: dict) -> list[str]:
    if "failed" in found:
        return [f"- Loader: failed, {found['failed']}"]
    rate = found["windows_per_s"]
    return [f"- Loader, 64 electrodes, to the device: {rate:,.0f} windows/s."]


def _step(found: dict) -> str:
    names = (found["step"], found["electrodes"], found["mode"])
    if "failed" in found:
        rest = [""] * (len(COLUMNS) - 1)
        return _line(*names, f"failed: {found['failed']}", *rest)
    cells = {
        title: "-" if found[key] is None else form.format(found[key])
        for title, (key, form) in COLUMNS.items()
    }
    if found["why_it_waits"]:
        cells["never waits"] += f": {found['why_it_waits']}"
    return _line(*names, *cells.values())


def _ratio(found: dict) -> str:
    if "failed" in found:
        return _line(found["what"], "", "", f"failed: {found['failed']}", "no")
    cells = [found[key] for key in ("what", "reference", "goal", "measured")]
    return _line(*cells, "yes" if found["met"] else "no")
