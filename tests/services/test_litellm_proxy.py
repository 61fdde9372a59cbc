"""Google's generateContent on a real server: LiteLLM's proxy in front of the embedded model.

The proxy runs from a venv of its own, made under the system's temporary folder once (about 250 MB), or from the `litellm` program
that DSPEX_LITELLM_PROXY names.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dspex_nb.clients import connect
from dspex_nb.errors import LMError
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope
from dspex_nb.transport import get

pytestmark = [pytest.mark.services, pytest.mark.model]
KEY = "sk-test-0123456789"
ASK = Request(
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}],
    {"max_tokens": 8, "temperature": 0.0},
)
CONFIG = """
model_list:
  - model_name: smollm
    litellm_params: {model: openai/smollm, api_base: os.environ/LLAMA_BASE, api_key: none}
litellm_settings: {telemetry: false}
general_settings: {master_key: os.environ/PROXY_KEY}
"""


@pytest.fixture(scope="module")
def program():
    """Path of a `litellm` that can serve."""
    given = os.environ.get("DSPEX_LITELLM_PROXY")
    if given:
        return given
    venv = Path(tempfile.gettempdir()) / f"dspex_nb-litellm-proxy-{os.getuid()}"
    done = venv / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        made = subprocess.run([venv / "bin" / "pip", "install", "-q", "litellm[proxy]"], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"litellm[proxy] cannot be installed here: {made.stderr.strip()[-200:]}")
        done.touch()
    return str(venv / "bin" / "litellm")


@pytest.fixture(scope="module")
def proxy(program, tmp_path_factory):
    """The proxy's address."""
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "config.yaml").write_text(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    base = connect("local").dump_state()["base_url"]
    env = {**os.environ, "LLAMA_BASE": base, "PROXY_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    env.pop("DATABASE_URL", None)
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [program, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
            env=env, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
        try:
            _wait(started, f"http://127.0.0.1:{port}/health/liveliness", folder / "log")
            yield f"http://127.0.0.1:{port}/v1beta"
        finally:
            started.terminate()
            started.wait(20)


def _wait(started, url, log):
    until = time.monotonic() + 150
    while started.poll() is None and time.monotonic() < until:
        try:
            if get(url).status == 200:
                return
        except LMError:
            time.sleep(0.5)
    pytest.fail(f"the proxy did not start: {log.read_text()[-2000:]}")


def test_google_blocking_async_and_streamed(proxy):
    client, scope = connect("gemini/smollm", api_base=proxy, api_key=KEY), Scope("t")
    plain = connect("local").complete(ASK, scope=scope)
    response = client.complete(ASK, scope=scope)
    assert (response.text, response.outputs[0].finish_reason) == (plain.text, plain.outputs[0].finish_reason)
    assert response.usage.prompt_tokens == plain.usage.prompt_tokens
    assert "candidates" in response.raw
    assert asyncio.run(client.acomplete(ASK, scope=scope)).text == plain.text
    pieces = list(client.stream(ASK, scope=scope))
    assert ("".join(pieces), len(pieces) > 1) == (plain.text, True)


def test_a_wrong_key_is_refused_and_not_shown(proxy):
    with pytest.raises(LMError) as caught:  # 400 "No connected db": without its database the proxy knows one key
        connect("gemini/smollm", api_base=proxy, api_key="sk-wrong-0123456789").complete(ASK, scope=Scope("t"))
    assert "sk-wrong-0123456789" not in str(caught.value)


def test_anthropic_through_the_same_proxy(proxy):
    client = connect("anthropic/smollm", api_base=proxy.removesuffix("/v1beta"), api_key=KEY)
    plain = connect("local").complete(ASK, scope=Scope("t")).text
    assert client.complete(ASK, scope=Scope("t")).text == plain
    assert "".join(client.stream(ASK, scope=Scope("t"))) == plain
