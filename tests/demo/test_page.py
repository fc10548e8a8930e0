"""The page in a headless Chromium, as a visitor sees it. ``OVSEG_SCREENSHOTS=folder`` keeps the pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import pytest
from PIL import Image

from tests.demo.browsing import CHROMIUM, ROOT, server

pytest.importorskip("gradio", reason="the extra `demo` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="the extra `test-web` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]

PHOTO = ROOT / "data" / "scenes" / "scenes" / "images" / "0000.jpg"
MARKUP = "<img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    temporary = tmp_path_factory.mktemp("demo")
    with server(temporary, "--max-megabytes", "1", "--max-pixels", "500000", "--max-classes", "20") as running:
        yield running
    assert not list(temporary.glob("ovseg-demo-*")), "uploads stayed on the disk"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser, address, tmp_path):
    """Opens windows of visitors who share nothing; none may ask any other machine for anything."""
    asked, windows = [], []

    def open_window():
        window = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        window.set_default_timeout(120_000)  # a machine that does much else
        window.on("request", lambda request: asked.append(request.url))
        window.goto(address)
        window.wait_for_selector("#words textarea")
        windows.append(window)
        return window

    yield open_window
    for window in windows:
        window.context.close()
    foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not foreign, f"asked another machine: {foreign}"


def ask(window, words: str, photo: Path | None = None) -> None:
    window.fill("#words textarea", words)
    if photo is None:
        window.press("#words textarea", "Enter")
    else:
        window.set_input_files("#photo input[type=file]", photo)


def classes(window, expected: set[str]) -> dict[str, str]:
    """The legend ``{class: share}`` once it shows a class of ``expected`` and no other."""
    window.wait_for_function(
        "names => { const seen = [...document.querySelectorAll('.legend td:nth-child(2)')].map(e => e.textContent);"
        " return seen.length && seen.every(n => names.includes(n)); }",
        arg=sorted(expected),
    )
    rows = [row.locator("td").all_text_contents() for row in window.locator(".legend tr").all()[1:]]
    return {row[1]: row[2] for row in rows}


def keep(window, name: str, folder: Path) -> None:
    folder = Path(os.environ.get("OVSEG_SCREENSHOTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    window.wait_for_timeout(500)
    window.screenshot(path=folder / f"{name}.png", full_page=True)


def expected_shares(words: list[str]) -> dict[str, str]:
    from ovseg import Segmenter

    model = Segmenter()
    model.set_vocabulary(words)
    return {name: f"{share:.1%}" for name, share in model.segment(PHOTO).areas().items()}


def test_words_legend_pointer_and_files(visit, tmp_path):
    window = visit()
    words = ["grass", "sky", "dog", "water"]
    ask(window, ", ".join(words), PHOTO)
    assert classes(window, set(words)) == expected_shares(words)
    window.wait_for_selector("#overlay img")
    window.click("#overlay img")
    window.wait_for_function("document.querySelector('#status textarea').value.includes(' at (')")
    assert re.search(r"(grass|sky|dog|water) at \(\d+, \d+\)", window.input_value("#status textarea"))
    told = re.match(r"\S+ with \S+: (\w+) at \((\d+), (\d+)\)", window.input_value("#status textarea"))
    place, (width, height) = told[1], Image.open(PHOTO).size
    # the middle of the picture is the middle of the photo, also where a photo is smaller than its field
    assert abs(int(told[2]) - width / 2) <= 1 and abs(int(told[3]) - height / 2) <= 1
    window.wait_for_timeout(500)
    box = window.locator("#overlay img").bounding_box()
    assert box["height"] > 1.5 * height, "a small picture is not enlarged"
    window.mouse.move(box["x"] + box["width"] / 2 + 0.5, box["y"] + box["height"] / 2 + 0.5)
    assert window.locator("#tip").text_content().split(",")[0] == place
    keep(window, "answer", tmp_path)
    for number, ending in enumerate(("labels.png", "coco.json", "overlay.png")):
        with window.expect_download() as download:
            window.click(f"#file{number}")
        assert download.value.suggested_filename == f"0000_{ending}"
        download.value.save_as(tmp_path / ending)
    labels = cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == Image.open(PHOTO).size[::-1] and labels.max() < len(words)
    ask(window, "grass, tree")
    classes(window, {"grass", "tree"})
    seconds = float(window.input_value("#status textarea").split()[0])
    assert seconds < 0.5, f"{seconds} s for other words of a photo that is encoded"
    ask(window, "rainbow, " + MARKUP)
    assert classes(window, {"rainbow", MARKUP}) == expected_shares(["rainbow", MARKUP])
    assert window.title() == "ovseg"


def test_two_methods_side_by_side(visit, tmp_path):
    window = visit()
    ask(window, "grass, sky, dog", PHOTO)
    classes(window, {"grass", "sky", "dog"})
    window.click("#other input")
    window.get_by_role("option", name="sclip", exact=True).click()
    window.wait_for_function(
        "[...document.querySelectorAll('.legend th')].some(e => e.textContent.startsWith('sclip with '))"
    )
    heads = window.locator(".legend th").all_text_contents()
    assert heads[:2] == ["", "class"] and len(heads) == 4 and " with " in heads[2], heads
    window.get_by_role("tab", name="Side by side").click()
    window.wait_for_selector("#slider img >> nth=1")
    assert window.locator("#sides span").all_text_contents() == heads[2:]
    sides, picture = (window.locator(name).bounding_box() for name in ("#sides", "#slider img >> nth=0"))
    assert sides["y"] + sides["height"] <= picture["y"], "the names lie on the picture"
    keep(window, "side_by_side", tmp_path)


def test_what_is_wrong_is_said(visit, tmp_path):
    window, broken, large = visit(), tmp_path / "broken.jpg", tmp_path / "large.png"
    broken.write_bytes(PHOTO.read_bytes()[:3000])
    Image.new("RGB", (1000, 501)).save(large)
    ask(window, "grass, sky", PHOTO)
    classes(window, {"grass", "sky"})
    for words, photo, told in (
        ("grass, sky", broken, "broken.jpg is not segmented: truncated JPEG"),
        ("grass, sky", large, "the limit is 500,000. Make it smaller."),
    ):
        window.click("#photo button[aria-label='Remove Image']")
        ask(window, words, photo)
        window.get_by_text(told).wait_for()
        assert not window.locator(".legend").count(), "an answer to another question is still shown"
        keep(window, photo.stem, tmp_path)
    window.click("#photo button[aria-label='Remove Image']")
    ask(window, "grass, " + MARKUP + ", " + MARKUP, PHOTO)
    window.get_by_text("occurs twice").first.wait_for()
    assert window.title() == "ovseg" and not window.locator("img[src='x']").count()
    ask(window, ", ".join(f"word {i}" for i in range(21)))
    window.get_by_text("21 classes; 20 are the most").wait_for()
    ask(window, "grass, sky")
    classes(window, {"grass", "sky"})


def test_two_visitors_at_once(visit):
    first, second = visit(), visit()
    ask(first, "grass, sky", PHOTO)
    ask(second, "dog, water, fire", PHOTO)
    assert classes(first, {"grass", "sky"}) == expected_shares(["grass", "sky"])
    assert classes(second, {"dog", "water", "fire"}) == expected_shares(["dog", "water", "fire"])
