"""Measurement of the link: random bytes in both directions, within bounds."""

from typing import Final

LINK_MEDIA_TYPE: Final = "application/octet-stream"

MAX_LINK_BYTES: Final = 8 * 2**20
"""Maximum number of bytes in each direction of one measurement."""
