"""The contract between client and server: messages, errors, digests and the shard codec.

Imports neither HTTP nor torch, so that both sides and every tool can use it.
"""

PROTOCOL_VERSION = 3
"""Increased when a client and a server of different versions cannot work together."""
