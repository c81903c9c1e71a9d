"""The choice of the device; torch is imported by it, not before."""

from omega21.executors.base import Device, DeviceOptions


def find_device(options: DeviceOptions) -> Device:
    """Choose the device: CUDA, else MPS, else the CPU.

    Raises InvalidRequest for one that is not here, ImportError where torch cannot be loaded.
    """
    try:
        from omega21.executors.torch import find_torch_device  # noqa: PLC0415 - takes seconds
    except OSError as error:  # a library of torch's that this system cannot load
        raise ImportError(str(error)) from error

    return find_torch_device(options)
