"""The page: the left column, the tabs, and what follows on what."""

from typing import Any

import gradio as gr

import explorer as ex
from explorer.errors import InputError
from explorer_app.browser_view import RECALL
from explorer_app.column.sidebar import (
    DEFAULT_BACKBONE,
    DEFAULT_DISTORTION,
    DEFAULT_PHOTO,
    build_sidebar,
    fit_students,
    operator_controls,
    take_checkpoint,
)
from explorer_app.endpoints import build_endpoints
from explorer_app.service import engine
from explorer_app.style import SWITCH_THEME, TITLE
from explorer_app.tabs.attention import build_attention_tab, show_attention
from explorer_app.tabs.attribution import build_attribution_tab, connect_attribution_tab
from explorer_app.tabs.embeddings import CHANGED, build_embeddings_tab, connect_embeddings_tab, open_point
from explorer_app.tabs.patches import build_patches_tab, pick_layer, show_patches
from explorer_app.tabs.robustness import build_robustness_tab, connect_robustness_tab
from explorer_app.tabs.shared import MODEL_QUEUE, ToldError, notice, on_change, sidebar_changes, told
from explorer_app.tabs.train import build_train_tab, connect_train_tab, own_students, restore

FORGOTTEN = ToldError(engine.FORGOTTEN)
PROGRESS = gr.Progress(track_tqdm=True)
ABOUT = """
### What you see
A frozen **teacher** sees the clean picture; that is the **reference**. The same teacher, and a **student**, see the
distorted picture. After *Distilling Vision Transformers for Distortion-Robust Representation Learning*
(Alexis, Giannopoulos, Gunopulos, arXiv 2604.22529), of which this is an implementation from its abstract, with our own
loss forms.

### Weights and photos
{weights}

The 207 photos are CC0 or in the public domain; `assets/photos/ATTRIBUTION.csv` names their authors.

### For programs
`gradio_client` reaches `/compare`, `/patch_similarity`, `/embed`, `/sweep` and `/distill`; the link *Use via API* at
the foot of this page describes them. The same functions are in Python: `import explorer as ex`, then
`ex.compare(...)`, `ex.sweep(...)` or `ex.distill(...)`.
"""


def build() -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        _header()
        broken_link = gr.HTML(visible=False, elem_id="link-notice")
        problem = gr.HTML(notice(), elem_id="notice")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300, elem_id="sidebar"):
                column = build_sidebar()
                weights = gr.Markdown(elem_id="weights")
            with gr.Column(scale=7, min_width=320), gr.Tabs(elem_id="tabs") as tabs:
                with gr.Tab("Attention", id="attention") as attention_tab:
                    attention = build_attention_tab()
                with gr.Tab("Patches", id="patches") as patches_tab:
                    patches, layer = build_patches_tab()
                with gr.Tab("Embeddings", id="embeddings") as embeddings_tab:
                    embeddings = build_embeddings_tab()
                with gr.Tab("Train", id="train") as train_tab:
                    training = build_train_tab(column)
                with gr.Tab("Robustness", id="robustness") as robustness_tab:
                    robustness = build_robustness_tab()
                with gr.Tab("Attribution", id="attribution") as attribution_tab:
                    attribution = build_attribution_tab()
                with gr.Tab("About", id="about"):
                    gr.Markdown(
                        ABOUT.format(weights="\n".join(f"- **{p.label}**: {p.credit}" for p in ex.ALIASES.values()))
                    )
        shown, drawn = gr.State(None), gr.State({})  # None is a page that was forgotten: `reopen` sets it
        outputs = [attention, patches, problem, weights, drawn, embeddings.status]
        inputs = [drawn, shown, layer, *column.inputs]
        on_change(sidebar_changes(column), refresh, inputs, outputs)
        redraw: dict[str, Any] = {"fn": refresh, "inputs": inputs, "outputs": outputs, "show_progress": "minimal"}
        redraw |= {"api_visibility": "private", "concurrency_id": "model"}
        column.backbone.input(
            fit_students, [column.backbone, training.own], column.pair, api_visibility="private"
        ).then(**redraw)
        column.checkpoint.upload(
            take_checkpoint,
            [column.checkpoint, column.architecture, column.size, column.own],
            [column.own, column.backbone, column.pair],
            api_visibility="private",
            **MODEL_QUEUE,
        ).success(**redraw)
        connect_train_tab(training, column, shown, problem, redraw)
        opened = {}
        for tab, name in (
            (attention_tab, "attention"),
            (patches_tab, "patches"),
            (embeddings_tab, "embeddings"),
            (train_tab, "train"),
            (robustness_tab, "robustness"),
            (attribution_tab, "attribution"),
        ):
            opened[name] = tab.select(lambda name=name: name, outputs=shown, queue=False, api_visibility="private")
            opened[name].then(**redraw)
        connect_embeddings_tab(embeddings, column, shown, opened["embeddings"])
        connect_robustness_tab(robustness, column, problem)
        connect_attribution_tab(attribution, column, problem)
        embeddings.view.open(
            open_point,
            embeddings.form[0],
            [column.photo, column.picture, column.catalogue],
            show_progress="hidden",
            api_visibility="private",
        ).then(
            lambda: (gr.Tabs(selected="attention"), "attention"),
            outputs=[tabs, shown],
            queue=False,
            api_visibility="private",
        ).then(**redraw)
        patches.layer(pick_layer, outputs=layer, queue=False, api_visibility="private").then(
            **{**redraw, "show_progress": "hidden"}
        )
        restored = [shown, layer, column.photo, column.picture, column.catalogue, column.backbone, column.pair]
        restored += [column.size, column.seed, column.operator, column.clip, *column.sliders, column.severity]
        restored += [column.spec, column.text]
        opening: dict[str, Any] = {"js": f"() => [({RECALL})()]", "api_visibility": "private", "queue": False}
        page.load(reopen, training.recalled, [broken_link, tabs, *restored], **opening).then(**redraw)
        page.load(restore, training.recalled, training.follows, **opening)
        build_endpoints()
    return page


def refresh(
    drawn: dict[str, Any],
    shown: str | None,
    layer: int | None,
    picture: str | None,
    photo: str | None,
    spec: str | None,
    backbone: str,
    pair: str,
    size: int,
    seed: float | None,
    progress: gr.Progress = PROGRESS,  # noqa: ARG001  (Gradio then shows the download of weights)
) -> list[Any]:
    """Draw the tab that is open, unless it shows this already; the other one is drawn when it is opened."""
    if shown is None:
        return [gr.skip(), gr.skip(), notice(FORGOTTEN), *[gr.skip()] * 3]
    inputs = (picture, photo, spec, backbone, pair, size, seed)
    wanted = (layer if shown == "patches" else None, *inputs, engine.version_of(pair))
    if shown == "embeddings":
        model = (spec, backbone, pair, size, seed)
        stale = drawn.get(shown, model) != model
        return [*[gr.skip()] * 2, notice(), gr.skip(), {**drawn, shown: model}, CHANGED if stale else gr.skip()]
    if shown not in ("attention", "patches") or drawn.get(shown) == wanted:
        return [gr.skip(), gr.skip(), notice(), *[gr.skip()] * 3]
    payload, problem, weights = show_patches(layer, *inputs) if shown == "patches" else show_attention(*inputs)
    views = [gr.skip(), payload] if shown == "patches" else [payload, gr.skip()]
    return [*views, problem, weights, gr.skip() if problem else {**drawn, shown: wanted}, gr.skip()]


def reopen(recalled: Any, request: gr.Request) -> list[Any]:
    """The left column as the page's address describes it; what it does not describe keeps its default."""
    query, own = dict(request.query_params) if request else {}, own_students(recalled)
    try:
        with told():
            return [gr.skip(), *_reopened(query, own)]
    except ToldError as error:
        told_once = notice(ToldError(f"this link cannot be opened as it is: {error}"))
        return [gr.HTML(told_once, visible=True), *_reopened({}, own)]


def _reopened(query: dict[str, str], own: list[str]) -> list[Any]:
    photo = query.get("photo", DEFAULT_PHOTO)
    damage = ex.distortion(query.get("distortion", ex.distortion(DEFAULT_DISTORTION).spec))
    size, seed = _whole(query, "size", engine.SIZES[0]), _whole(query, "seed", 0)
    if size not in engine.SIZES or not 0 <= seed < 2**31:
        raise InputError(f"size is one of {engine.SIZES} and seed a number from 0; got size={size}, seed={seed}")
    view = "patches" if query.get("view") == "patches" else "attention"
    layer = _whole(query, "layer", 0) if "layer" in query else None
    controls = _controls(damage)
    backbone = query.get("backbone", DEFAULT_BACKBONE)
    pair = query.get("pair")
    students = own if pair is None or pair in own else [pair, *own]  # somebody else's, who gave this link away
    if pair is not None and pair not in (name for _, name in engine.offered_students(backbone, students)):
        raise InputError(f"'{backbone}' has no student '{pair}'")
    fitting = fit_students(backbone, students, pair)
    picture = [photo, engine.photo_path(photo), photo]
    return [gr.Tabs(selected=view), view, layer, *picture, backbone, fitting, size, seed, *controls, *[damage.spec] * 2]


def _whole(query: dict[str, str], name: str, default: int) -> int:
    try:
        return int(query.get(name, default))
    except ValueError:
        raise InputError(f"{name} is a whole number; got '{query[name]}'") from None


def _controls(damage: ex.Distortion) -> list[Any]:
    """The controls of a single operator with fixed parameters; what they cannot show, the text tells."""
    steps = [step for branch in damage.branches for step in branch]
    if not steps:
        return operator_controls("none")
    fixed = {name: value for name, value in steps[0].values if not isinstance(value, tuple)}
    if len(steps) > 1 or len(damage.branches) > 1 or len(fixed) < len(steps[0].values):
        return operator_controls(DEFAULT_DISTORTION)
    return operator_controls(steps[0].name, fixed, steps[0].clip)


def _header() -> None:
    with gr.Row(elem_id="header"):
        gr.Markdown(
            "# vit-explorer\nSee what a Vision Transformer does to a damaged picture, "
            "and watch a student learn to see through the damage."
        )
        gr.Button("Light / dark", elem_id="theme-switch", size="sm").click(
            None, js=SWITCH_THEME, api_visibility="private"
        )
