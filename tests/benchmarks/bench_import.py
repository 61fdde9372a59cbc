"""What importing costs, in fresh processes of one run: `python tests/benchmarks/bench_import.py` prints JSON, seconds as medians.

`load_ext_s` is `%load_ext dspex_nb` in a shell that is already there: IPython's own import is not counted.
"""

import json
import platform
import statistics
import subprocess
import sys

ROUNDS = 5
MEASURES = {
    "import_dspex_nb_s": ("", "import dspex_nb"),
    "load_ext_s": (
        "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()",
        "shell.run_line_magic('load_ext', 'dspex_nb')",
    ),
    "import_dspy_s": ("", "import dspy"),
}
CODE = """
import sys, time
exec(sys.argv[1])
started = time.perf_counter()
exec(sys.argv[2])
print(time.perf_counter() - started)
"""


def once(prepare, measured):
    done = subprocess.run([sys.executable, "-c", CODE, prepare, measured], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main():
    for prepare, measured in MEASURES.values():  # once unmeasured, so that bytecode is compiled and the disk is warm
        once(prepare, measured)
    rounds = [
        {name: once(*code) for name, code in MEASURES.items()} for _ in range(ROUNDS)
    ]  # interleaved: load falls on all alike
    medians = {name: statistics.median(each[name] for each in rounds) for name in MEASURES}
    found = {
        **{name: round(value, 4) for name, value in medians.items()},
        "dspy_over_dspex_nb": round(medians["import_dspy_s"] / medians["import_dspex_nb_s"], 1),
        "dspy_over_load_ext": round(medians["import_dspy_s"] / medians["load_ext_s"], 1),
        "rounds": ROUNDS,
        "all": {name: [round(each[name], 4) for each in rounds] for name in MEASURES},
        "python": platform.python_version(),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
