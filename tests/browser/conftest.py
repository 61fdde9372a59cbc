"""One JupyterLab and one browser page for the whole session; each test opens a notebook of its own."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from labpage import STARTED, LabPage
from labserver import CHROMIUM, CHROMIUM_OPTIONS, running_lab

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": CHROMIUM_OPTIONS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args):
    return {**browser_context_args, "viewport": {"width": 1400, "height": 1100}}


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("lab")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    quiet = home / "settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with running_lab(notebooks, home) as address:
        yield address, notebooks


@pytest.fixture(scope="session")
def lab_page(lab_server, browser, browser_context_args):
    """The page, warm for all tests: HTTP cache and service worker stay."""
    context = browser.new_context(**browser_context_args)
    page = context.new_page()
    page.goto(f"{lab_server[0]}/lab?reset")
    page.wait_for_function("() => window.jupyterapp", timeout=60_000)
    page.evaluate(STARTED)
    page.evaluate("() => window.jupyterapp.shell.collapseLeft?.()")
    yield page
    context.close()


@pytest.fixture
def notebook(lab_server, lab_page, request):
    """Open a notebook with the given cells, or an existing file, as a `LabPage`."""
    opened = []

    def open_(*cells, path=None, metadata=None):
        root = lab_server[1]
        name = re.sub(r"\W+", "-", request.node.name).strip("-") + f"-{len(opened)}.ipynb"
        if path is None:
            written = nbformat.v4.new_notebook(
                metadata={**KERNEL, **(metadata or {})},
                cells=[c if isinstance(c, dict) else nbformat.v4.new_code_cell(c) for c in cells],
            )
            nbformat.write(written, root / name)
        else:
            (root / name).write_bytes(Path(path).read_bytes())
        page = LabPage(lab_page, root, name)
        opened.append(page)
        page.open()
        return page

    yield open_
    for page in opened:
        page.detach()
    if opened:
        opened[-1].close()


@pytest.fixture
def shots(tmp_path):
    """Where screenshots go: a throwaway folder, or DSPEX_SHOTS to look at them."""
    folder = Path(os.environ.get("DSPEX_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
