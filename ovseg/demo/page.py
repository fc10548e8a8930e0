"""The page: its fields, what they do, and the server.

Visitors' words are text wherever they appear: components that show text get them as they are, the two places that take
markup (messages, the legend) get them escaped. Nothing is fetched from another machine: the fonts are the system's,
Gradio's analytics are off.
"""

from __future__ import annotations

import html
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
import gradio as gr

from ovseg.demo.answers import Answer, Desk
from ovseg.demo.examples import examples
from ovseg.demo.limits import Refused
from ovseg.demo.models import default_choice

KEPT_SECONDS = 3600
"""Uploads and results older than this are deleted, and all of them when the server ends."""
_NONE = "(photo)"
_POINTER = (Path(__file__).parent / "pointer.js").read_text(encoding="utf-8")
_CSS = """
.unseen {display: none !important}
#tip {position: fixed; display: none; z-index: 1000; pointer-events: none; max-width: 24em; padding: 4px 8px;
  border-radius: 4px; background: #222; color: #fff; font-size: 14px; overflow-wrap: anywhere}
#overlay img {object-fit: scale-down !important}  /* Gradio places clicks as if small pictures were not enlarged */
#slider img {width: 100%; height: 100%; object-fit: contain}
.sides {display: flex; justify-content: space-between; gap: 1em; font-weight: 600}
.legend {width: 100%; border-collapse: collapse; border: none !important}
.legend tr, .legend td, .legend th {border: none !important}
.legend tr + tr {border-top: 1px solid var(--border-color-primary) !important}
.legend td, .legend th {padding: 3px 8px; text-align: right; overflow-wrap: anywhere; min-width: 4.5em}
.legend td:first-child, .legend th:first-child {min-width: 0}
.legend td:first-child {width: 1.5em}
.legend td:nth-child(2), .legend th:nth-child(2) {text-align: left}
.legend i {display: block; width: 1.2em; height: 1.2em; border: 1px solid #666}
"""


def _photo_field() -> gr.Image:
    """A field for a photo that gives the path of the upload, so that ovseg decodes it and says what is wrong with it.

    Not a subclass: Gradio writes a ``.pyi`` beside the source of every one.
    """
    field = gr.Image(type="filepath", sources=["upload", "clipboard"], label="Photo", height=280, elem_id="photo")
    field.preprocess = lambda payload: payload.path if payload else None  # Gradio has checked that it is an upload
    return field


def build(desk: Desk, folder: Path) -> gr.Blocks:
    """The page.

    Args:
        desk: answers questions.
        folder: temporary files for visitors to download.
    """
    method, weights = default_choice()
    limits, choices = desk.limits, desk.models.choices

    def ask(path, text, weights, method, other):
        pairs = [(method, weights)] + ([(other, weights)] if other != _NONE else [])
        start = time.perf_counter()
        try:
            keys = desk.ask(path, text, pairs)
            answers = [desk.answer(key) for key in keys]
        except Refused as error:
            raise _error(error) from error
        pictures = [answer.picture() for answer in answers]
        left = pictures[0] if len(answers) > 1 else answers[0].photo()
        titles = [a.title for a in answers] if len(answers) > 1 else ["photo", answers[0].title]
        status = f"{time.perf_counter() - start:.2f} s. Point at the picture, or click it: which class is there?"
        slider = (left, pictures[-1])
        return keys, pictures[0], *answers[0].pixels(), legend(answers), slider, sides(*titles), status

    def point(keys, event: gr.SelectData):
        try:
            return "\n".join(f"{a.title}: {a.pointed(*event.index)}" for a in map(desk.answer, keys))
        except Refused as error:
            raise _error(error) from error

    def files(keys):
        try:
            return [gr.DownloadButton(value=path, interactive=True) for path in desk.answer(keys[0]).write(folder)]
        except Refused as error:
            raise _error(error) from error

    def clear():
        return (
            [],
            None,
            None,
            "",
            "",
            None,
            "",
            "",
            *(gr.DownloadButton(value=None, interactive=False) for _ in range(3)),
        )

    def methods(weights, method, other):
        here = choices.get(weights, [])
        return (
            gr.Dropdown(here, value=method if method in here else here[0]),
            gr.Dropdown([_NONE, *here], value=other if other in here else _NONE),
        )

    with gr.Blocks(title="ovseg", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        keys = gr.State([])
        gr.Markdown("# ovseg\nA photo and your words in, a class for every pixel out.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = _photo_field()
                words = gr.Textbox(
                    label="Words",
                    info="commas between classes, semicolons between synonyms; Enter segments",
                    placeholder="cat, sofa; couch, grass",
                    max_lines=6,
                    max_length=limits.text,
                    elem_id="words",
                )
                button = gr.Button("Segment", variant="primary", elem_id="segment")
                with gr.Row():
                    method_box = gr.Dropdown(choices[weights], value=method, label="Method", elem_id="method")
                    weights_box = gr.Dropdown(list(choices), value=weights, label="Weights", elem_id="weights")
                    other_box = gr.Dropdown(
                        [_NONE, *choices[weights]], value=_NONE, label="Compare with", elem_id="other"
                    )
                gr.Markdown(
                    f"Up to {limits.megabytes} MB, {limits.pixels / 1e6:g} megapixels and {limits.classes} classes. "
                    f"Photos are deleted after {KEPT_SECONDS // 60} minutes."
                )
            with gr.Column(scale=3, min_width=320):
                with gr.Tab("Overlay"):
                    overlay = gr.Image(
                        label="Overlay",
                        interactive=False,
                        format="png",
                        buttons=["fullscreen"],
                        height=420,
                        elem_id="overlay",
                    )
                with gr.Tab("Side by side"):
                    slider_sides = gr.HTML(elem_id="sides")  # above: a label would lie on the pictures' corner
                    slider = gr.ImageSlider(
                        label="Photo and overlay",
                        show_label=False,
                        interactive=False,
                        format="jpeg",
                        buttons=[],
                        height=420,
                        elem_id="slider",
                    )
                pixels = gr.Image(interactive=False, format="png", elem_id="pixels", elem_classes="unseen")
                names = gr.Textbox(interactive=False, elem_id="names", elem_classes="unseen")
                status = gr.Textbox(label="Here", interactive=False, lines=2, max_lines=3, elem_id="status")
                table = gr.HTML(elem_id="legend")
                with gr.Row():
                    downloads = [
                        gr.DownloadButton(what, size="sm", interactive=False, elem_id=f"file{i}")
                        for i, what in enumerate(("Label map (PNG)", "COCO (JSON)", "Overlay (PNG)"))
                    ]
        question = [photo, words, weights_box, method_box, other_box]
        shown = [keys, overlay, pixels, names, table, slider, slider_sides, status]
        everything = [*shown, *downloads]
        # one question at a time, whoever asks: two models at once would only slow each other down
        options = dict(concurrency_limit=1, concurrency_id="models", api_visibility="private")
        private = dict(api_visibility="private", show_progress="hidden")

        def answer_on(event):
            asked = event(ask, question, shown, **options)
            asked.failure(clear, None, everything, queue=False, **private)
            asked.success(files, [keys], downloads, **private)

        for event in (button.click, words.submit, method_box.input, other_box.input):
            answer_on(event)
        changed = weights_box.input(
            methods, [weights_box, method_box, other_box], [method_box, other_box], queue=False, **private
        )
        answer_on(changed.success)
        answer_on(photo.upload(clear, None, everything, queue=False, **private).success)
        photo.clear(clear, None, everything, queue=False, **private)
        overlay.select(point, [keys], [status], **private)
        shown_examples = gr.Examples(
            examples(), [photo, words], cache_examples=False, label="Examples", api_visibility="private"
        )
        answer_on(shown_examples.load_input_event.success)
    return page


def sides(left: str, right: str) -> str:
    """What lies on the two sides of the slider, as HTML."""
    return f'<div class="sides"><span>{html.escape(left)}</span><span>{html.escape(right)}</span></div>'


def legend(answers: Sequence[Answer]) -> str:
    """Classes that occur in any answer, with their share and mean confidence in each, as an HTML table."""
    found = [{row["name"]: row for row in answer.legend()} for answer in answers]
    rows = {name: row for own in reversed(found) for name, row in own.items()}
    names = sorted(rows, key=lambda name: -max(own[name]["share"] for own in found if name in own))
    heads = [f"<th>{html.escape(a.title)}</th>" for a in answers] if len(answers) > 1 else ["<th>share</th>"]
    sure = len(answers) == 1 and "confidence" in next(iter(rows.values()))
    lines = ["<tr><th></th><th>class</th>", *heads, "<th>confidence</th>" if sure else "", "</tr>"]
    for name in names:
        shares = [f"<td>{own[name]['share']:.1%}</td>" if name in own else "<td>-</td>" for own in found]
        lines.append(f'<tr><td><i style="background:{rows[name]["colour"]}"></i></td><td>{html.escape(name)}</td>')
        lines += [*shares, f"<td>{rows[name]['confidence']:.0%}</td>" if sure else "", "</tr>"]
    return f'<table class="legend">{"".join(lines)}</table>'


def _error(error: Refused) -> gr.Error:
    return gr.Error(html.escape(str(error), quote=False), duration=15, print_exception=False)


@contextmanager
def served(desk: Desk, host: str, port: int) -> Iterator[str]:
    """The page while the block runs, under the address given; temporary files are deleted at its end.

    Raises:
        OSError: if the port is taken.
    """
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="ovseg-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when components are made and when files come
        page = build(desk, Path(folder))
        page.queue(max_size=desk.limits.queue, api_open=False)
        fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                max_file_size=desk.limits.megabytes * 1_000_000,
                theme=gr.themes.Soft(**fonts),
                css=_CSS,
                js=_POINTER,
                footer_links=[],
                ssr_mode=False,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                state_session_capacity=100,
            )
            yield address
        finally:
            page.close(verbose=False)
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
