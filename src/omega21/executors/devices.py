"""The one place that chooses what computes; torch is loaded by the choice, not before."""

from omega21.executors.base import Device, DeviceOptions


def find_device(options: DeviceOptions) -> Device:
    """Choose the device: CUDA, else MPS, else the CPU. Raises InvalidRequest, ImportError."""
    try:
        from omega21.executors.torch import find_torch_device  # noqa: PLC0415 - takes seconds
    except OSError as error:  # a library of torch's that this system cannot load
        raise ImportError(str(error)) from error
    return find_torch_device(options)
