"""A retriever's card and search box in a real JupyterLab: typed, found, marked, narrowed by a filter, kept in the notebook."""

from __future__ import annotations

CARD = """
import dspex_nb as dx
index = dx.retriever("bm25", index=[
    {"text": "Loops repeat a block of code while a condition holds. " * 6 + "A loop may be left with break.", "title": "Loops", "source": "guide.pdf", "page": 3, "year": 2019},
    {"text": "Classes group data and the functions that work on it.", "title": "Classes", "source": "guide.pdf", "page": 9, "year": 2024},
    {"text": "<b>Code</b> blocks are indented; a tab is not four spaces.", "title": "Blocks & tabs", "source": "https://example.com/blocks", "year": 2024},
])
index
"""
BOX = 'box = index.search_box("blocks of code")\nbox'


def found(output):
    return output.locator("strong").all_inner_texts()


def test_the_card_and_the_box(notebook, shots):
    page = notebook(CARD, BOX, "print([one.title for one in box.hits])")
    page.run_cell(0)
    page.run_cell(1)
    card, box = page.output(0), page.output(1)
    card.get_by_text("3 passages").wait_for()
    box.locator("mark").first.wait_for()
    assert set(found(box)) == {"Loops", "Blocks & tabs"}
    assert box.locator("mark").count() >= 3
    assert not box.locator("b").count()  # what a document holds is text
    query, narrowed = box.get_by_label("search", exact=True).or_(box.get_by_label("query")), box.get_by_label("filter")
    query.fill("grouping data")
    box.get_by_text("1 passage for").wait_for()
    assert found(box) == ["Classes"]
    assert box.locator("mark").all_inner_texts() == ["group", "data"]
    query.fill("code")
    box.get_by_text("2 passages for").wait_for()
    narrowed.fill('{"year": {"$gte": 2020}}')
    box.get_by_text("1 passage for").wait_for()
    assert found(box) == ["Blocks & tabs"]
    narrowed.fill("{year")
    box.get_by_text("is no JSON").wait_for()
    narrowed.fill('{"year": {"$after": 2020}}')
    box.get_by_text("$after").first.wait_for()
    narrowed.fill("")
    query.fill("zebra")
    box.get_by_text("nothing found for").wait_for()
    query.fill("classes")
    query.press("Enter")
    page.page.wait_for_function(
        "() => JSON.stringify(window.jupyterapp.shell.currentWidget.content.widgets[1].model.outputs.toJSON()).includes('search: classes')"
    )
    stored = page.outputs(1)
    assert len(stored) == 1
    html = "".join(stored[0]["data"]["text/html"])
    assert "<mark" in html
    assert "<input" not in html
    assert "Classes" in "".join(stored[0]["data"]["text/plain"])
    page.run_cell(2)
    assert page.outputs(2)[0]["text"].strip() == "['Classes']"
    query.fill("blocks of code")
    box.get_by_text("2 passages for").wait_for()
    try:
        for theme in ("Light", "Dark"):
            page.theme(f"JupyterLab {theme}")
            for width in (1400, 700):
                page.page.set_viewport_size({"width": width, "height": 1100})
                page.page.wait_for_timeout(150)
                for at, name in enumerate(("retriever-card", "search-box")):
                    page.scroll_to(at)
                    page.output(at).screenshot(path=shots / f"{name}-{theme.lower()}-{width}.png")
    finally:
        page.theme("JupyterLab Light")
        page.page.set_viewport_size({"width": 1400, "height": 1100})
    assert page.errors == []
