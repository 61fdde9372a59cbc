"""Tab in a real shell, by both of IPython's ways: the terminal's and the kernel's."""

import pytest

import dspex_nb as dx


@pytest.fixture
def tab(shell):
    shell.user_ns.update(
        triage=dx.Predict("message -> desk"),
        pipe=dx.Pipeline("pipe", a=dx.predict("a -> b")),
        train=[{}],
        trial=3,
        right=lambda e, p: 1,
        before=dx.Evaluation("triage", dx.api.evaluating.scorecard([], [dx.metrics.resolve_metric("f1")], 0.0, "x")),
    )

    def complete(line):
        from IPython.core.completer import provisionalcompleter

        with provisionalcompleter():
            found = list(shell.shell.Completer.completions(line, len(line)))
        return [line[: one.start] + one.text for one in found]

    complete.terminal = shell.complete
    return complete


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("%evaluate tri", ["%evaluate triage"]),
        ("before = %evaluate tri", ["before = %evaluate triage"]),
        ("%optimize pi", ["%optimize pipe"]),
        ("%evaluate triage --data tra", ["%evaluate triage --data train"]),
        ("%evaluate triage --met", ["%evaluate triage --metrics"]),
        ("%evaluate triage --metrics exact_match,ri", ["%evaluate triage --metrics exact_match,right"]),
        ("%evaluate triage --res", ["%evaluate triage --resume"]),
        ("%evaluate triage --dead", ["%evaluate triage --deadline"]),
        ("%evaluate triage --compare bef", ["%evaluate triage --compare before"]),
        ("%optimize x --opt", ["%optimize x --optimizer"]),
        ("%optimize x --optimizer LabeledF", ["%optimize x --optimizer LabeledFewShot"]),
        ("%optimize x --optimizer BootstrapFewShot --max-r", ["%optimize x --optimizer BootstrapFewShot --max-rounds"]),
        ("%dspex st", ["%dspex status"]),
        ("%dspex lm lo", ["%dspex lm local"]),
        ("%%signature S --adapter js", ["%%signature S --adapter json"]),
        ("%%pipeline p --ba", ["%%pipeline p --background"]),
        ("%%evaluate tri", ["%%evaluate triage"]),
    ],
)
def test_lines_of_our_magics(tab, line, completed):
    assert tab(line) == completed
    assert [each.rpartition(" ")[2] for each in completed] == tab.terminal(line) or "," in line


def test_several(tab):
    found = [line.rpartition(" ")[2] for line in tab("%optimize x --optimizer Boot")]
    assert {"BootstrapFewShot", "BootstrapFewShotWithRandomSearch"} <= set(found)
    assert all(name.startswith("Boot") for name in found)
    assert {"--trainset", "--valset", "--help"} <= {line.rpartition(" ")[2] for line in tab("%optimize x --")}


def test_python_completes_as_before(tab):
    assert "triage" in tab("tria")
    assert "train.append" in tab("train.app")
    assert "import json" in tab("import jso")
    assert "%evaluate" in tab("%eval")
    assert "x = trial" in tab("x = tri")
    assert not any("--" in line for line in tab("5 "))
