"""Importing costs little: each room, alone, in a fresh process."""

import json
import pkgutil
import subprocess
import sys

import pytest

import dspex_nb

HEAVY = ("dspy", "litellm", "plotly", "pandas", "aiohttp", "joblib", "ipywidgets")
NEED_DSPY = ("Avatar", "StandInTrainer")  # subclasses of DSPy's own classes
ROOMS = sorted({f"dspex_nb.{found.name}" for found in pkgutil.iter_modules(dspex_nb.__path__)} - {"dspex_nb.__main__"})

CODE = """
import json, sys
loaded = {}
for name in sys.argv[2:]:
    __import__(name)
    found = [heavy for heavy in sys.argv[1].split(",") if heavy in sys.modules]
    if found:
        loaded[name] = found
        break
print(json.dumps(loaded))
"""


def loaded_by(*names):
    done = subprocess.run([sys.executable, "-c", CODE, ",".join(HEAVY), *names], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import_dspex_nb_is_light():
    assert loaded_by("dspex_nb") == {}


def test_every_room_is_light():
    assert len(ROOMS) > 15
    assert loaded_by(*ROOMS) == {}  # in one process: the first that loads something is named


@pytest.mark.parametrize("room", ["dspex_nb.api", "dspex_nb.magics", "dspex_nb.testing"])
def test_the_upper_rooms_alone(room):
    assert loaded_by(room) == {}


def test_the_extension_is_light():
    code = "import sys, json\nfrom IPython.core.interactiveshell import InteractiveShell\ns = InteractiveShell.instance()\n"
    code += "before = set(sys.modules)\ns.run_line_magic('load_ext', 'dspex_nb')\n"
    code += f"print(json.dumps([n for n in {HEAVY!r} if n in sys.modules and n not in before]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_every_public_name_but_those_that_need_dspy_is_light():
    code = f"import sys, json, dspex_nb as dx\n[getattr(dx, n) for n in dx.__all__ if n not in {NEED_DSPY}]\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
