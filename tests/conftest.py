"""What every test shares: quiet surroundings, and real recordings where there are."""

import os
from pathlib import Path

# Before anything imports them: no window opens, MOABB asks no mirror.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MOABB_DOWNLOAD_PROVIDER", "upstream")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core

import pytest  # noqa: E402
import torch  # noqa: E402

# Of the extra "export", which needs a newer torch than the package does.
_EXPORT = {"onnx", "onnxscript", "onnxruntime"}
_PHYSIONET = Path("MNE-eegbci-data", "files", "eegmmidb", "1.0.0")


@pytest.fixture(scope="session")
def physionet_root():
    """Folder of PhysioNet's motor imagery recordings, found through MNE_DATA."""
    root = os.environ.get("MNE_DATA")
    if not root or not (Path(root) / _PHYSIONET / "S001" / "S001R04.edf").is_file():
        pytest.skip(
            "needs PhysioNet EEG recordings: set MNE_DATA to a folder that holds "
            f"{_PHYSIONET.as_posix()}/S001/S001R04.edf"
        )
    return Path(root)


@pytest.fixture
def same_numbers_each_time():
    """What a test draws from torch is the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _skip_without_onnx(item):
    """Skip, and say why, what exports a file where nothing can write or read it."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if error.name in _EXPORT:
            pytest.skip(f"needs {error.name}, of the extra 'export'")
        raise


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(_skip_without_onnx)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(_skip_without_onnx)
