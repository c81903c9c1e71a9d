"""The pictures of the README and the docs: of a run that trains here, taken by `make pictures`.

They are written only where OMEGA21_PICTURES names a folder, so that a test leaves the tree clean.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from omega21 import Client
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.models.corteza.config import TINY, task
from omega21.protocol.optimizers import OptimizerConfig
from tests.dashboard.conftest import PHONE, Open
from tests.servers import RunningServer

PICTURES: dict[str, dict[str, Any]] = {
    "dashboard": {"locale": "en-US", "color_scheme": "light"},
    "dashboard-phone": {
        "locale": "es-ES", "color_scheme": "dark", "viewport": PHONE, "device_scale_factor": 2,
    },
}  # fmt: skip
RUN = "neuronal-7"


def train_something(server: RunningServer, workdir: Path, *, epochs: int) -> None:
    """A run whose curves show something: small steps, on the samples hardest to tell apart."""
    order = TrainRequest(
        run=RUN,
        samples=2000,
        batch_size=25,
        epochs=epochs,
        kind="neuronal",
        anomaly_percent=15,
        seed=7,
        validation=400,
        evaluate_every=20,
        task=task(TINY.model_copy(update={"statistics_lr_multiplier": 1.0})),
        optimizer=OptimizerConfig(learning_rate=1e-4),
    )
    with Client(server.address) as client:
        for _ in client.train(order, TrainOptions(workdir=workdir)):
            pass
        chance = random.Random(7)
        for _ in range(40):
            adjustments = [round(chance.uniform(-1, 1), 2) for _ in range(16)]
            client.feedback(adjustments, validated=chance.random() < 0.8, run=RUN)


def is_painted(page: Page) -> None:
    expect(page.locator('[data-map="coherence"] canvas')).to_be_visible()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def test_pictures_are_taken(
    new_server: Callable[[], RunningServer], open_page: Open, tmp_path: Path
) -> None:
    wanted = os.environ.get("OMEGA21_PICTURES")
    server = new_server()
    train_something(server, tmp_path, epochs=4 if wanted else 1)
    for name, options in PICTURES.items():
        watched = open_page(f"{server.address}/#{RUN}", **options)
        page = watched.page
        expect(page.locator("#feedback .rate")).to_be_visible()
        expect(page.locator('[data-chart="evaluation"] canvas')).to_be_visible()
        is_painted(page)
        path = Path(wanted or tmp_path) / f"{name}.png"
        page.screenshot(path=path, full_page="phone" not in name)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 20_000


def test_the_pictures_of_the_docs_are_there() -> None:
    images = Path(__file__).parents[2] / "docs/images"
    missing = [name for name in PICTURES if not (images / f"{name}.png").is_file()]
    if missing:
        pytest.fail(f"{missing} are missing in docs/images: run make pictures")
