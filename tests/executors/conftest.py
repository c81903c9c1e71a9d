"""Executors are driven by the engine, as everywhere."""

from tests.engine.conftest import engine, one_thread, run

__all__ = ["engine", "one_thread", "run"]
