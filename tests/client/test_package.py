"""What the package offers, and when it loads it."""

import subprocess
import sys

import omega21
from omega21.client.client import AsyncClient
from omega21.client.sync import Client
from omega21.protocol import errors


def test_the_public_names() -> None:
    assert omega21.Client is Client
    assert omega21.AsyncClient is AsyncClient
    assert omega21.errors is errors
    assert omega21.__version__.count(".") == 2
    assert set(omega21.__all__) <= set(dir(omega21))


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(omega21, "no_such_name")


def test_the_synchronous_client_has_every_call_of_the_asynchronous_one() -> None:
    calls = {name for name in vars(AsyncClient) if not name.startswith("_")}
    # What is behind `predict` and `evaluate`, and what only an event loop needs.
    internal = {"aclose", "compute_predictions", "compute_scores", "patient", "hurried"}
    assert calls - internal <= set(dir(Client))


def test_the_package_alone_loads_nothing() -> None:
    code = "import sys, omega21; print('httpx' in sys.modules, 'numpy' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["False", "False"]
