"""Page of the demo: an input, the model's prediction, and the input's position among the training examples.

The page is served by gradio. It loads nothing from other hosts, and its security policy makes the browser refuse to.
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

MOST_BYTES, MOST_CHARACTERS = 20 << 20, 10_000  # largest image file, and longest text
NEAREST = 10  # training examples that are listed
_KEPT_S, _CLEANED_S = 600, 60  # time after which uploads are deleted, and the interval of the check
# gradio's own page needs inline scripts; nothing may be loaded from or sent to another host.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' ws: data: blob:; object-src 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True)
class PageContent:
    """Content of a model's page.

    Attributes:
        title: Name of the study.
        summary: Line about the model.
        card: Model card as Markdown; "" if there is none.
        embedding_map: Embedded training examples; None if there is no map.
        map_problem: Reason why there is no map.
    """

    title: str
    summary: str
    card: str
    embedding_map: EmbeddingMap | None
    map_problem: str = ""


def page(module: Task, model: Any, content: PageContent, scratch: Path) -> gr.Blocks:
    """Return the page of a model; `scratch` is a folder for copies of the examples that it offers."""
    embedding_map = content.embedding_map
    kinds = list(embedding_map.labels) if embedding_map else []
    is_text = module.INPUT == "text"
    hint = "The prediction is shown here."
    no_map = demo_html.note(f"There is no map of the training examples. {content.map_problem}")

    def draw_map(kind: str | None, position: np.ndarray | None = None, nearest: Sequence[int] = ()) -> str:
        return demo_html.scatter(embedding_map, str(kind), position, nearest) if embedding_map else no_map

    def predict(given: str | None, kind: str | None) -> tuple[str, str, str, Any]:
        """Return the prediction, the map and the neighbours as HTML, and the input's position and neighbours."""
        if fault := _text_fault(given) if is_text else "":
            return demo_html.message(fault), draw_map(kind), "", None
        if not given:
            return demo_html.note(hint), draw_map(kind), "", None
        source = given.strip() if is_text else Path(given)
        try:
            decoded: Any = source if is_text else images.load(Path(given))
            [prediction] = module.predict(model, [decoded])
            picture = module.draw(decoded, prediction) if demo_html.has_boxes(prediction) else None
            answer = demo_html.answer(prediction, picture)
            if embedding_map is None:
                return answer, no_map, "", None
            vector = module.embed(model, [source], embedding_map.stage)[0]  # type: ignore[attr-defined]
        except images.ImageFault as fault:
            return demo_html.message(f"This file cannot be used: {fault}."), draw_map(kind), "", None
        indices, cosines = embedding_map.nearest(vector, NEAREST)
        position, nearest = embedding_map.position(vector), indices.tolist()
        neighbours = demo_html.neighbours(embedding_map, nearest, cosines.tolist())
        return answer, draw_map(kind, position, nearest), neighbours, (position.tolist(), nearest)

    def recolour(kind: str, last: Any) -> str:
        return draw_map(kind, np.array(last[0]), last[1]) if last else draw_map(kind)

    deletion = (_CLEANED_S, _KEPT_S)
    with gr.Blocks(title=f"{content.title}: demo", analytics_enabled=False, delete_cache=deletion) as blocks:
        gr.HTML(f"<h1>{demo_html.escaped(content.title)}</h1>{demo_html.note(content.summary)}", js_on_load=None)
        last = gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                if is_text:
                    entered: Any = gr.Textbox(label="A sentence", lines=3, max_lines=8, elem_id="input", autofocus=True)
                    button = gr.Button("Ask the model", variant="primary", elem_id="ask")
                else:
                    sources: list = ["upload", "clipboard"]
                    entered = gr.Image(sources=sources, label="An image", height=300, elem_id="input")
                    entered.preprocess = _uploaded
            with gr.Column(scale=3, min_width=300):
                answer = gr.HTML(demo_html.note(hint), elem_id="answer", js_on_load=None)
        offered, missing = _offered_examples(embedding_map, scratch)
        if offered:
            # gr.Examples would replace the input component, whose preprocessing is changed above.
            examples = gr.Dataset(
                components=[entered],
                samples=[[each] for each in offered],
                label="Examples of the test split (not used for training)",
                type="index",
                elem_id="examples",
            )
            examples.click(lambda index: offered[index], examples, entered, api_visibility="private")
        if missing:
            gr.HTML(demo_html.note(f"Examples of the test split whose files are missing: {missing}."))
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                gr.HTML("<h2>Among the training examples</h2>")
                kind = gr.Radio(kinds, value=kinds[0] if kinds else None, label="Coloured by", visible=len(kinds) > 1)
                plane = gr.HTML(draw_map(kinds[0] if kinds else None), elem_id="map", js_on_load=None)
            with gr.Column(scale=2, min_width=300):
                near = gr.HTML("", elem_id="near", js_on_load=None)
        if content.card:
            with gr.Accordion("About this model", open=False):
                gr.Markdown(content.card, elem_classes="card")
        outputs = [answer, plane, near, last]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        if is_text:
            gr.on([button.click, entered.submit], predict, [entered, kind], outputs, **quiet)
        else:
            entered.change(predict, [entered, kind], outputs, **quiet)
        kind.change(recolour, [kind, last], plane, **quiet)
    return blocks


def serve(blocks: gr.Blocks, host: str, port: int | None, scratch: Path) -> str:
    """Serve the page in a thread, and return its address.

    Without a port the first free one is used. The page may load the files of the folder `scratch`.

    Raises:
        InputError: The port is taken, or the address is not one of this machine.
    """
    hosts = [host, *LOCAL] if host not in ("0.0.0.0", "::") else ["*"]
    middleware = [Middleware(_SecurityPolicy), Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
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
        rule, remedy = "the demo needs a free port of this machine", "Choose another --port or another --host."
        raise InputError(Fault(rule, f"{host}:{port}: {error}", remedy)) from error
    return address


class _SecurityPolicy:
    """ASGI middleware that adds headers which make the browser load nothing from another host."""

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
    """Return the uploaded file as it is; gradio would decode it with Pillow and fail if it is not an image."""
    return payload.path if payload else None


def _text_fault(given: str | None) -> str:
    if not (given or "").strip():
        return "Write a sentence first."
    if len(given or "") > MOST_CHARACTERS:
        return f"This text has {len(given or ''):,} characters; at most {MOST_CHARACTERS:,} are allowed."
    return ""


def _offered_examples(embedding_map: EmbeddingMap | None, scratch: Path) -> tuple[Sequence[str], int]:
    """Return examples of the test split that the page offers as inputs, and the number of missing files.

    The images are copied, since gradio serves only files of a few folders.
    """
    if embedding_map is None or embedding_map.is_text:
        return (embedding_map.test_examples if embedding_map else []), 0
    (scratch / "examples").mkdir(parents=True, exist_ok=True)
    offered, missing = list[str](), 0
    for number, source in enumerate(embedding_map.test_examples, start=1):
        file = scratch / "examples" / f"example-{number}.png"
        if isinstance(source, np.ndarray):
            Image.fromarray(source).save(file)
        elif Path(source).is_file():
            file = file.with_suffix(Path(source).suffix)
            shutil.copyfile(source, file)
        else:
            missing += 1
            continue
        offered.append(str(file))
    return offered, missing
