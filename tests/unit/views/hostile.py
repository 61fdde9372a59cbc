"""What models might write, and a reader that accepts only this package's own markup around it."""

import base64
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

BAD = "<script>alert(1)</script><img src=x onerror=\"alert('1')\"><b>]]>&amp; '\" </details></td>\x00\x1b[31m\ud800 javascript:1"
OURS = {
    "div", "span", "strong", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "code", "button", "img",
    "input", "select", "option", "ins", "del",
}  # fmt: skip
ATTRIBUTES = {
    "style", "class", "align", "scope", "open", "src", "alt", "width", "type", "data-dspex-action", "disabled", "data-dspex-value",
    "data-dspex-figure", "value", "placeholder", "spellcheck", "role", "colspan", "aria-label", "aria-selected", "aria-sort",
    "aria-expanded", "title", "selected",
}  # fmt: skip
VOID = {"img", "input"}


class Reader(HTMLParser):
    """Checks that only this room's tags and attributes occur, that they nest, and keeps the text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.text, self.pictures = [], [], []

    def handle_starttag(self, tag, attrs):
        assert tag in OURS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "src":
                assert value.startswith("data:image/svg+xml;base64,")
                self.pictures.append(base64.b64decode(value.split(",")[1]).decode())
            if name == "style":
                assert "url(" not in value
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)

    def handle_decl(self, decl):
        raise AssertionError(decl)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.stack == []
    for picture in reader.pictures:
        check_svg(picture)
    return "".join(reader.text)


def check_svg(svg):
    for element in ET.fromstring(svg).iter():  # noqa: S314 - our own picture
        assert element.tag.rpartition("}")[2] in {"svg", "title", "style", "rect", "text", "path", "g", "line", "circle", "image"}
        assert not any(name.lower().startswith("on") for name in element.attrib)
