"""The choice of the device; torch is imported by it, not before."""

from omega21.executors.base import Device, DeviceOptions


def find_device(options: DeviceOptions) -> Device:
    """Choose the device: CUDA, else MPS, else the CPU. Raises InvalidRequest."""
    from omega21.executors.torch import find_torch_device  # noqa: PLC0415 - takes seconds to load

    return find_torch_device(options)
