from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from dspex_nb.errors import WorkerDiedError
from dspex_nb.pools import ChildProcess

ECHO = """
import os, subprocess, sys, threading, time
from dspex_nb.pools import childside
done = threading.Event()
def command(message):
    if message.get("do") == "raise":
        raise ValueError("bad command")
    if message.get("do") == "stop":
        done.set()
    else:
        childside.send({"echo": message.get("x"), "args": sys.argv[1:]}, message.get("blob"))
print("printed", flush=True)
os.write(1, b"written by C\\n")
if "--grandchild" in sys.argv:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    childside.send({"grandchild": started.pid})
if "--hang" in sys.argv:
    childside.serve(command, on_eof=lambda: time.sleep(60))
else:
    childside.serve(command, on_eof=lambda: print("parent gone", flush=True))
done.wait()
childside.send({"bye": 1})
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    (tmp_path / "echo_child.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))
    children = []

    def make(*args, **options):
        child = ChildProcess("echo_child", list(args), **options)
        children.append(child)
        return child

    yield make
    for child in children:
        child.kill()


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_commands_go_down_and_messages_come_up_in_order(start):
    child = start("--x")
    for number in range(50):
        child.send({"x": number})
    child.send({"x": "blob"}, b"\n\x00raw\n")
    child.send({"do": "stop"})
    assert child.wait(10) == 0
    got = []
    child.on_message(got.append)  # registered late: nothing is lost
    assert [m["echo"] for m in got[:-1]] == [*range(50), "blob"]
    assert got[50]["blob"] == b"\n\x00raw\n"
    assert got[0]["args"] == ["--x"]
    assert got[-1] == {"bye": 1}


def test_what_it_prints_goes_to_its_log_and_not_into_the_channel(start, tmp_path, capfd):
    child = start(log=tmp_path / "child.log")
    child.send({"do": "stop"})
    child.wait(10)
    text = (tmp_path / "child.log").read_text()
    assert "printed" in text
    assert "written by C" in text
    assert "printed" in child.tail()
    assert capfd.readouterr() == ("", "")


def test_a_command_that_raises_is_logged_and_the_channel_stays(start):
    child = start()
    child.send({"do": "raise"})
    child.send({"do": "stop"})
    assert child.wait(10) == 0
    assert "ValueError: bad command" in child.tail()


def test_terminate_lets_it_end_itself(start):
    child = start()
    wait_for(lambda: "written by C" in child.tail())
    codes = []
    child.on_exit(codes.append)
    assert child.terminate(5) == 0
    wait_for(lambda: codes)
    assert codes == [0]
    assert "parent gone" in child.tail()
    assert not child.alive


def test_terminate_kills_one_that_will_not_end(start):
    child = start("--hang")
    wait_for(lambda: "written by C" in child.tail())
    start_s = time.monotonic()
    assert child.terminate(0.2) == -signal.SIGKILL
    assert time.monotonic() - start_s < 2


def test_what_it_started_dies_with_it(start):
    child = start("--grandchild")
    pids = []
    child.on_message(lambda m: pids.append(m.get("grandchild")))
    wait_for(lambda: pids)
    assert running(pids[0])
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: not running(pids[0]))


def test_sending_to_a_dead_child_says_how_it_died(start):
    child = start()
    os.kill(child.pid, signal.SIGKILL)
    child.wait(5)
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        child.send({"x": 1})


def test_the_end_of_the_thread_that_made_it_is_no_end_of_it(start):
    made = []
    thread = threading.Thread(target=lambda: made.append(start()))
    thread.start()
    thread.join()
    time.sleep(0.15)
    assert made[0].alive  # a parent-death signal set from that thread would have killed it
    made[0].send({"do": "stop"})
    assert made[0].wait(5) == 0


def test_interrupting_the_kernels_process_group_does_not_reach_it(start):
    child = start()
    assert os.getpgid(child.pid) != os.getpgid(0)


BUSY = """
import re, sys
re.match("(a+)+$", "a" * 60 + "b")  # one C call that holds the GIL for ever: only the kernel's signal can end it
"""


@pytest.mark.parametrize("module", ["echo_child", "busy_child"])
def test_it_dies_when_the_parent_is_killed(tmp_path, module):
    if module == "busy_child" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux has the parent-death signal")
    (tmp_path / "echo_child.py").write_text(ECHO)
    (tmp_path / "busy_child.py").write_text(BUSY)
    parent = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(tmp_path)!r})
        from dspex_nb.pools import ChildProcess
        child = ChildProcess({module!r})
        time.sleep(0.15)
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    assert running(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not running(pid), 5)
