"""Pretraining in several processes: the GPUs of a machine, or the cores of a CPU.

    accelerate launch --multi_gpu --num_processes 2 pretrain_in_processes.py
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 ...

Despite its name, ``--multi_gpu`` is what makes accelerate start several processes; the
second line trains on the CPU (gloo instead of NCCL). ``torchrun --nproc_per_node 2``
does the same, and without a launcher the script is one process.
"""

import json
from pathlib import Path

from accelerate import Accelerator
from skorch.hf import AccelerateMixin

from braindecode_gcmae import GCMAEPretrainer, SimulatedEEG, montage_preset


class Pretrainer(AccelerateMixin, GCMAEPretrainer):
    """A pretrainer of several processes."""


def main():
    accelerator = Accelerator()
    recordings = SimulatedEEG(
        montage_preset("10-20-19"), n_subjects=4, n_trials=16, sfreq=100
    )
    X, _, subject = recordings.windows()  # every process has all windows ...
    net = Pretrainer(
        accelerator=accelerator,
        electrodes=montage_preset("motor-8"),
        chs_info=recordings.chs_info,
        sfreq=100,
        max_epochs=2,
        batch_size=32 // accelerator.num_processes,  # ... and learns from its share
    )
    net.fit(X, groups=subject)
    if accelerator.is_main_process:
        net.save_pretrained("run1")
        told = {
            "processes": accelerator.num_processes,
            "device": accelerator.device.type,
            "train_loss": [float(loss) for loss in net.history[:, "train_loss"]],
        }
        Path("run1", "history.json").write_text(json.dumps(told))
    accelerator.end_training()


if __name__ == "__main__":
    main()
