"""A notebook open in JupyterLab, driven through `window.jupyterapp`, never through the keyboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

STARTED = "async () => { const a = window.jupyterapp; await a.started; await a.restored; }"
OPEN = """async (path) => {
  const app = window.jupyterapp;
  const panel = await app.commands.execute('docmanager:open', { path, factory: 'Notebook' });
  await panel.context.ready; await panel.revealed; await panel.sessionContext.ready;
  if (panel.sessionContext.session?.kernel) await panel.sessionContext.session.kernel.info;
  app.shell.activateById(panel.id);
}"""
CLOSE = """async () => {
  for (const w of [...window.jupyterapp.shell.widgets('main')])
    if (w.sessionContext) { await w.sessionContext.shutdown(); w.context.model.dirty = false; w.close(); }
}"""
RUN = """async (i) => {
  const p = window.jupyterapp.shell.currentWidget;
  p.content.activeCellIndex = i; p.content.deselectAll();
  await window.jupyterapp.commands.execute('notebook:run-cell');
  return p.content.widgets[i].model.executionCount;
}"""
OUTPUTS = "(i) => window.jupyterapp.shell.currentWidget.content.widgets[i].model.outputs.toJSON()"
THEME = "async (theme) => { await window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }"
SAVE = "async () => { await window.jupyterapp.shell.currentWidget.context.save(); }"
SCROLL = "(i) => window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')"

# What a healthy Lab itself writes to the console; everything else is an error of ours. Keep each pattern narrow.
NOISE = (
    re.compile(
        r"Failed to load resource: the server responded with a status of 404.*(/lab/api/workspaces|favicon|/custom/custom\.css)"
    ),
    re.compile(r"The powerPreference option is currently ignored"),
)


class LabPage:
    """One notebook in the page. `errors` collects what the console reports and what the page throws."""

    def __init__(self, page: Any, root: Path, name: str) -> None:
        self.page, self.root, self.name = page, root, name
        self.errors: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", self._thrown)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self._keep(f"{message.text} ({message.location.get('url', '')})")

    def _thrown(self, error: Any) -> None:
        self._keep(str(error))

    def _keep(self, text: str) -> None:
        if not any(pattern.search(text) for pattern in NOISE):
            self.errors.append(text)

    def detach(self) -> None:
        self.page.remove_listener("console", self._console)
        self.page.remove_listener("pageerror", self._thrown)

    def open(self) -> None:
        self.page.evaluate(OPEN, self.name)

    def close(self) -> None:
        self.page.evaluate(CLOSE)

    def run_cell(self, index: int) -> int | None:
        """Run a cell and wait until it ends; return its execution count."""
        return self.page.evaluate(RUN, index)

    def start_cell(self, index: int) -> None:
        """Run a cell without waiting for its end."""
        self.page.evaluate(f"(i) => {{ ({RUN})(i); }}", index)

    def cell(self, index: int) -> Any:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Any:
        return self.cell(index).locator(".jp-Cell-outputArea")

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Return the outputs stored in the notebook's model."""
        return self.page.evaluate(OUTPUTS, index)

    def theme(self, name: str) -> None:
        self.page.evaluate(THEME, name)
        self.page.wait_for_function("(dark) => (document.body.dataset.jpThemeLight === 'false') === dark", arg="Dark" in name)

    def save(self) -> None:
        self.page.evaluate(SAVE)

    def scroll_to(self, index: int) -> None:
        self.page.evaluate(SCROLL, index)
