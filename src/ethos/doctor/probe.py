"""Import torch and print, as JSON, what it can do here; run as a process of its own."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Print which torchvision is in use, the CUDA devices, and the CPU threads."""
    import torch

    from ethos.model.engine import ensure_torchvision

    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        devices.append(f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB")
    state = {"torchvision": ensure_torchvision(), "devices": devices, "threads": torch.get_num_threads()}
    sys.stdout.write(json.dumps(state) + "\n")


if __name__ == "__main__":
    main()
