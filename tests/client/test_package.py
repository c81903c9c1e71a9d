"""What the package offers, and when it loads it."""

import inspect
import subprocess
import sys
from collections.abc import Collection

import omega21
from omega21.client.api.endpoint import Endpoint
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


def test_the_synchronous_client_has_every_method_of_the_asynchronous_one() -> None:
    assert signatures(Client).items() >= signatures(AsyncClient, without={"aclose"}).items()
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_the_synchronous_calls_are_those_of_the_asynchronous_api() -> None:
    ours = AsyncClient("http://127.0.0.1:9").api
    with Client("http://127.0.0.1:9") as client:
        nouns = {name: type(calls) for name, calls in vars(client.api).items() if name[0] != "_"}
    expected = {name: calls for name, calls in vars(ours).items() if isinstance(calls, Endpoint)}

    assert nouns.keys() == expected.keys()
    assert len(nouns) == 11
    for name, calls in expected.items():
        assert signatures(nouns[name]) == signatures(type(calls)) != {}


def signatures(cls: type, *, without: Collection[str] = ()) -> dict[str, inspect.Signature]:
    """The public methods of a class itself, and what each takes and returns."""
    return {
        name: inspect.signature(member)
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and name[0] != "_" and name not in without
    }


def test_the_package_alone_loads_nothing() -> None:
    code = "import sys, omega21; print('httpx' in sys.modules, 'numpy' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["False", "False"]
