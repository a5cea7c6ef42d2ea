"""The memory benchmark reads all of what it writes, and tells."""

import pytest

from benchmarks import flat_memory


@pytest.mark.slow
def test_every_sample_on_disk_is_read_once(tmp_path):
    out = tmp_path / "flat_memory.md"
    row = flat_memory.measure(0.03, each=0)
    assert row["windows_trained_on"] == row["windows"] == 18 * row["recordings"]
    # Windows begin and end inside FIF's buffers, so a little is read twice.
    assert abs(row["gigabytes_read"] - row["gigabytes"]) <= 0.015
    some = {**row, "gigabytes": 0.5, "windows_trained_on": 4}
    out.write_text(flat_memory.report([row, some]))
    assert "the peak grows by 0 MiB: less than 500 MB" in out.read_text()
    assert "some windows of every recording" in out.read_text()
    assert "all windows" in flat_memory.report([row, row])
