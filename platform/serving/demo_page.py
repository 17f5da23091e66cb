"""The demo's page: an input, what the model makes of it, and where that lies among the training examples.

gradio serves it. Nothing on it is fetched from elsewhere, and the browser is told to refuse whatever would be.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from platform.data import images
from platform.errors import Fault, InputError
from platform.serving import demo_html
from platform.serving.embedding_map import EmbeddingMap
from platform.task import Task

LOCAL = ("127.0.0.1", "localhost")

MOST_BYTES, MOST_CHARACTERS = 20 << 20, 10_000  # of a picture's file, and of a text
NEAREST = 10  # training examples that are shown
_KEPT_S, _CLEANED_S = 600, 60  # how long an upload stays on the disk, and how often that is looked at
# gradio's own page needs inline scripts; nothing may come from, or go to, another host.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' ws: data: blob:; object-src 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True)
class Shown:
    """What a page is of.

    Attributes:
        title: The study's name.
        facts: What there is to know of the model, in a line.
        card: The model card, as Markdown; "" where there is none.
        known: The training examples; None where there is no map.
        missing: Why there is none.
    """

    title: str
    facts: str
    card: str
    known: EmbeddingMap | None
    missing: str = ""


def page(module: Task, model: Any, shown: Shown, scratch: Path) -> gr.Blocks:
    """The page of a model.

    Args:
        module: Its task.
        model: As the task's `load` gives it.
        shown: What it is of.
        scratch: A folder for the examples that it offers.
    """
    known = shown.known
    kinds = list(known.labels) if known else []
    is_text = module.INPUT == "text"
    hint = "The answer is shown here."
    missing = demo_html.note(f"There is no map of the training examples. {shown.missing}")

    def start(kind: str | None) -> str:
        return demo_html.scatter(known, str(kind), None, []) if known else missing

    def look(given: str | None, kind: str | None) -> tuple[str, str, str, Any]:
        """The answer, the map, the neighbours, and what the map is drawn again from."""
        if fault := _text_fault(given) if is_text else "":
            return demo_html.message(fault), start(kind), "", None
        if not given:
            return demo_html.note(hint), start(kind), "", None
        source = given.strip() if is_text else Path(given)
        try:
            asked: Any = source if is_text else images.load(Path(given))
            [prediction] = module.predict(model, [asked])
            drawn = module.draw(asked, prediction) if demo_html.is_drawn(prediction) else None
            answer = demo_html.answer(prediction, drawn)
            if known is None:
                return answer, missing, "", None
            vector = module.embed(model, [source], known.stage)[0]  # type: ignore[attr-defined]
        except images.ImageFault as fault:
            return demo_html.message(f"This file cannot be used: {fault}."), start(kind), "", None
        numbers, cosines = known.nearest(vector, NEAREST)
        place, near = known.place(vector), numbers.tolist()
        found = demo_html.neighbours(known, near, cosines.tolist())
        return answer, demo_html.scatter(known, str(kind), place, near), found, (place.tolist(), near)

    def colour(kind: str, last: Any) -> str:
        place, near = (np.array(last[0]), last[1]) if last else (None, [])
        return demo_html.scatter(known, kind, place, near) if known else missing

    with gr.Blocks(title=f"{shown.title}: demo", analytics_enabled=False, delete_cache=(_CLEANED_S, _KEPT_S)) as blocks:
        gr.HTML(f"<h1>{demo_html.escaped(shown.title)}</h1>{demo_html.note(shown.facts)}", js_on_load=None)
        last = gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                if is_text:
                    entered: Any = gr.Textbox(label="A sentence", lines=3, max_lines=8, elem_id="input", autofocus=True)
                    button = gr.Button("Ask the model", variant="primary", elem_id="ask")
                else:
                    sources: list = ["upload", "clipboard"]
                    entered = gr.Image(sources=sources, label="A picture", height=300, elem_id="input")
                    entered.preprocess = _uploaded
            with gr.Column(scale=3, min_width=300):
                answer = gr.HTML(demo_html.note(hint), elem_id="answer", js_on_load=None)
        offered, left_out = _offered(known, scratch)
        if offered:
            # Not gr.Examples, which would set the input up anew, and so undo what it makes of uploads.
            examples = gr.Dataset(
                components=[entered],
                samples=[[each] for each in offered],
                label="From the test split, not trained on",
                type="index",
                elem_id="examples",
            )
            examples.click(lambda index: offered[index], examples, entered, api_visibility="private")
        if left_out:
            gr.HTML(demo_html.note(f"Examples of the test split that are not there any more: {left_out}."))
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                gr.HTML("<h2>Among the training examples</h2>")
                kind = gr.Radio(kinds, value=kinds[0] if kinds else None, label="Coloured by", visible=len(kinds) > 1)
                plane = gr.HTML(start(kinds[0] if kinds else None), elem_id="map", js_on_load=None)
            with gr.Column(scale=2, min_width=300):
                near = gr.HTML("", elem_id="near", js_on_load=None)
        if shown.card:
            with gr.Accordion("About this model", open=False):
                gr.Markdown(shown.card, elem_classes="card")
        outputs = [answer, plane, near, last]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        if is_text:
            gr.on([button.click, entered.submit], look, [entered, kind], outputs, **quiet)
        else:
            entered.change(look, [entered, kind], outputs, **quiet)
        kind.change(colour, [kind, last], plane, **quiet)
    return blocks


def serve(blocks: gr.Blocks, host: str, port: int | None, scratch: Path) -> str:
    """Serves the page from a thread; returns its address.

    Raises:
        InputError: The port is taken, or the host is not this machine's.
    """
    hosts = [host, *LOCAL] if host not in ("0.0.0.0", "::") else ["*"]
    middleware = [Middleware(_Policy), Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
    font, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    try:
        _, address, _ = blocks.queue(max_size=64).launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MOST_BYTES,
            ssr_mode=False,
            footer_links=[],
            run_history=False,
            allowed_paths=[str(scratch)],
            state_session_capacity=100,
            theme=gr.themes.Default(primary_hue="blue", font=font, font_mono=mono),
            css=demo_html.CSS,
            app_kwargs={"middleware": middleware},
        )
    except OSError as error:
        rule, remedy = "the page needs a free port of this machine", "Choose another --port, or another --host."
        raise InputError(Fault(rule, f"{host}:{port}: {error}", remedy)) from error
    return address


class _Policy:
    """Tells the browser to load nothing from another host."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, with_policy)


def _uploaded(payload: Any) -> str | None:
    """The file as it was uploaded: gradio would decode it first, by all that Pillow knows, and fail on what is none."""
    return payload.path if payload else None


def _text_fault(given: str | None) -> str:
    if not (given or "").strip():
        return "Write a sentence first."
    if len(given or "") > MOST_CHARACTERS:
        return f"This text has {len(given or ''):,} characters; {MOST_CHARACTERS:,} are the most."
    return ""


def _offered(known: EmbeddingMap | None, scratch: Path) -> tuple[Sequence[str], int]:
    """Examples of the test split as the page's inputs, and how many are not there any more.

    gradio hands out files of a few folders alone; these are copied to one.
    """
    if known is None or known.texts:
        return (known.tried if known else []), 0
    (scratch / "examples").mkdir(parents=True, exist_ok=True)
    offered, left_out = list[str](), 0
    for number, source in enumerate(known.tried, start=1):
        file = scratch / "examples" / f"example-{number}.png"
        if isinstance(source, np.ndarray):
            Image.fromarray(source).save(file)
        elif Path(source).is_file():
            file = file.with_suffix(Path(source).suffix)
            shutil.copyfile(source, file)
        else:
            left_out += 1
            continue
        offered.append(str(file))
    return offered, left_out
