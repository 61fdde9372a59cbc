"""The saved page of an evaluation: it stands alone, finds rows, opens traces, and runs nothing that a model wrote."""

from __future__ import annotations

from dspex_nb.messages import Usage
from dspex_nb.metrics import resolve_metrics
from dspex_nb.runs.evaluation import ScoredRow, scorecard
from dspex_nb.runs.traces import TracedCall

BAD = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\"> <!-- & \u2028"


def evaluation():
    from dspex_nb.api import Evaluation

    system = {"role": "system", "content": "Sort messages by desk." + BAD}
    rows = []
    for at in range(130):
        right = at % 4 != 0
        user = {"role": "user", "content": f"message: number {at} about a parcel"}
        call = TracedCall(
            "openai/stub",
            (system, user),
            ('{"desk": "billing"}' + BAD,),
            "triage",
            "k",
            {"temperature": 0},
            120,
            9,
            None,
            0.002,
            0.4,
        )
        error = BAD if at == 5 else None
        rows.append(
            ScoredRow(
                at,
                {"message": f"number {at} about a parcel" + (BAD if at < 3 else "")},
                {"desk": "billing" if right else "tech"},
                {} if error else {"desk": "billing"},
                {"exact_match:desk": float(right and not error)},
                0.4,
                0.002,
                None,
                error,
                Usage(calls=1),
                {},
                (call,),
            )
        )
    return Evaluation("triage" + BAD, scorecard(rows, resolve_metrics("exact_match:desk"), 12.5, "abc123"))


def test_it_stands_alone_and_runs_nothing_of_a_models(browser, tmp_path, shots):
    path = evaluation().save(tmp_path / "e.html")
    text = path.read_text()
    assert text.count("Sort messages by desk.") == 1  # what prompts share is written once
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark", offline=True)
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    try:
        assert page.locator("tr.row").count() == 50
        page.get_by_text("130 of 130 examples, page 1 of 3").wait_for()
        page.screenshot(path=shots / "page-dark.png")
        page.locator("input[type=search]").fill("NUMBER 77")
        page.get_by_text("1 of 130 examples").wait_for()
        page.locator("tr.row").first.click()
        page.get_by_text("message: number 77 about a parcel").wait_for()
        page.screenshot(path=shots / "page-trace-dark.png")
        page.locator("input[type=search]").fill("")
        page.locator("select").select_option("errors")
        assert page.locator("tr.row").count() == 1
        page.locator("select").select_option("failures")
        page.get_by_role("button", name="exact_match:desk").click()
        page.set_viewport_size({"width": 700, "height": 900})
        page.emulate_media(color_scheme="light")
        page.screenshot(path=shots / "page-light-700.png")
        assert page.evaluate("() => document.body.scrollWidth <= window.innerWidth")
        assert "pwned" not in page.evaluate("() => document.title").removeprefix("Evaluation of triage" + BAD)
        assert (
            page.evaluate("() => document.querySelectorAll('img[onerror], main script:not([type]):not(:last-of-type)').length")
            == 0
        )
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert complaints == []
    finally:
        context.close()
