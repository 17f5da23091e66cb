"""A page opened in a real browser from a file, without a network, and what must hold of every page."""

import itertools
from pathlib import Path

MOST_BYTES = 15e6
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> H&M \"'{{7*7}}"
SIZES = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]

# Of each text its contrast with what is behind it (WCAG 2.2), where that is below 4.5; 3 for large text.
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(c[i] / 255), 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.textContent.trim() || !element.getClientRects().length || element.closest("script,noscript")) continue;
    const svg = element.closest("svg"), colour = rgb(svg ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(svg ? svg.parentElement : element))].sort((x, y) => y - x);
    const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5, contrast = (a + 0.05) / (b + 0.05);
    if (contrast < least) found.push(`${node.textContent.trim()}: ${contrast.toFixed(2)}`);
  }
  return found;
}"""

# Sections that have nothing below their heading.
EMPTY = """() => [...document.querySelectorAll("section")]
  .filter((one) => one.innerText.trim() === one.querySelector("h2").innerText.trim()).map((one) => one.id)"""


class Opened:
    """A page in a browser without a network, and all that it complained of or asked for."""

    def __init__(self, chromium, file: Path, scheme: str = "light", width: int = 1280) -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.complaints = list[str]()
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())
        self.page.wait_for_selector(f"html[data-drawn={scheme}]", state="attached", timeout=60_000)

    def _asked(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(request.url)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.context.close()


def check(chromium, file: Path, charts: int, sizes=SIZES) -> str:
    """Check a page at several widths and colour schemes, and return its text."""
    assert file.stat().st_size < MOST_BYTES
    text = ""
    for scheme, width in sizes:
        with Opened(chromium, file, scheme, width) as opened:
            page = opened.page
            assert opened.complaints == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            marks = page.eval_on_selector_all(
                ".chart", "all => all.map(one => one.querySelectorAll('svg [class*=mark-] path, svg line').length)"
            )
            assert len(marks) == charts
            assert all(marks)
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate(EMPTY) == []
            assert page.evaluate("window.hacked") is None
            assert page.eval_on_selector_all("img", "all => all.every(one => one.alt && one.naturalWidth > 0)")
            levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => Number(one.tagName[1]))")
            assert levels.count(1) == 1
            assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
            text = page.inner_text("body")
    return text
