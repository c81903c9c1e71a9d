"""Cells in a real Jupyter kernel, run by nbclient and read while they run."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient


class LiveNotebook(NotebookClient):
    """A notebook whose output can be waited for while a cell runs."""

    def __init__(self, notebook: nbformat.NotebookNode, **settings: Any) -> None:
        super().__init__(notebook, timeout=None, **settings)
        self.text = ""
        self.pictures = 0
        self._read = 0
        self._news = asyncio.Event()
        self._running: asyncio.Task[Any] | None = None

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "stream":
            self.text += msg["content"]["text"]
        if "image/png" in msg["content"].get("data", {}):
            self.pictures += 1
        self._news.set()
        return super().process_message(msg, cell, cell_index)

    def begin(self, index: int) -> None:
        """Start a cell."""
        cell = self.nb.cells[index]
        self._running = asyncio.create_task(self.async_execute_cell(cell, index))
        self._running.add_done_callback(lambda _: self._news.set())

    async def line(self, start: str) -> str:
        """Wait for a whole line of output, after the last one returned, that starts so."""
        while True:
            self._news.clear()
            rest = self.text[self._read :].replace("\r", "\n")
            for found in rest.split("\n")[:-1]:
                if found.startswith(start):
                    self._read += rest.index(found) + len(found)
                    return found
            await self._wait(start)

    async def _wait(self, wanted: str) -> None:
        """Wait for news of the cell that runs."""
        assert self._running is not None
        if self._running.done():
            self._running.result()
            raise AssertionError(f"the cell ended without {wanted!r}:\n{self.text}")
        await asyncio.wait_for(self._news.wait(), 120)

    async def shows(self, text: str) -> None:
        """Wait for words in the output, such as those of a line that is written over."""
        while text not in self.text:
            self._news.clear()
            await self._wait(text)

    async def picture(self) -> None:
        """Wait for a picture."""
        while not self.pictures:
            self._news.clear()
            await self._wait("a picture")

    async def run(self, index: int) -> str:
        """Run a cell to its end and return what it wrote."""
        before = len(self.text)
        self.begin(index)
        await self.end()
        return self.text[before:]

    async def interrupt(self) -> None:
        """Press the notebook's stop button, and wait for the cell's end."""
        assert self.km is not None
        await ensure_async(self.km.interrupt_kernel())
        await self.end()

    async def end(self) -> None:
        """Wait for the end of the cell that runs."""
        assert self._running is not None
        await self._running


@asynccontextmanager
async def live_notebook(
    notebook: nbformat.NotebookNode, *, kernel: str, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[LiveNotebook]:
    """Run a kernel in `folder` for a notebook; what it wrote is shown when a test fails."""
    live = LiveNotebook(notebook, kernel_name=kernel, resources={"metadata": {"path": str(folder)}})
    async with live.async_setup_kernel(env=dict(environment)):
        try:
            yield live
        finally:
            print(live.text)  # noqa: T201


def code_cells(path: Path) -> list[int]:
    """Return the places of the cells with code in a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [place for place, cell in enumerate(cells) if cell.cell_type == "code"]
