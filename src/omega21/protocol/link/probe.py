"""Measuring the link: bytes that mean nothing, up and down, within bounds."""

from typing import Final

LINK_MEDIA_TYPE: Final = "application/octet-stream"

MAX_LINK_BYTES: Final = 8 * 2**20
"""Most bytes that one measurement sends in either direction."""
