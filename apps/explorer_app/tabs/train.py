"""Train tab: a student learns while its view of the picture in the left column recovers beside the teacher's."""

import html
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

import explorer as ex
from explorer.distortions.parameters import Parameter
from explorer.errors import InputError
from explorer.models.pairs import export_pair
from explorer.system.files import atomic_path
from explorer.training.recipe import attention_weight
from explorer_app.browser_view import REMEMBER, browser_view
from explorer_app.events import AT_ONCE, OPENING, PRIVATE, QUICK, refused
from explorer_app.service import beside, first_look, models, pace, runs, students
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.limits import LIMITS
from explorer_app.service.pictures import Selection, picture_set, source_of, title
from explorer_app.service.question import DAMAGED, DEFAULT_DISTORTION, PAIR, SEEDS, Question, whole
from explorer_app.service.runs import RUNS, Run, Watched
from explorer_app.tabs.shared import (
    CLICK,
    Field,
    Follows,
    Made,
    Page,
    Tab,
    choose_pictures,
    mark,
    saved_files,
    status_and_mark,
)

HELP = """
The **teacher** stays as it is and sees clean pictures; the **student**, its copy, sees damaged ones and learns to see
the same: the same class token (*CLS* among the numbers), the same patch features (*patch*), the same attention
(*attention*). The picture in the left column is not learned from; it shows how far the student has come. Similarity is
that of the patch under the pointer. *Learn from* also offers the pictures that are **selected on the map** of the
Embeddings tab, as soon as there are any. Runs take their turn; one that was stopped, also by closing this page, can be
resumed. What a level brings is seen by leaving it out: **Repeat** makes the run that is shown again with one thing
changed, on the same picture, and both stand side by side at the same step.
"""
FIXED, VARYING = "as in the left column", "varying"
TRAINABLE = [
    ("adapter of rank 32 on every block (5 MB)", "lora:32"),
    ("adapter of rank 8 (1 MB)", "lora:8"),
    ("the last two blocks", "last:2"),
    ("everything", "all"),
]
FIELDS = ("learn_from", "learned", "cls", "patch", "attention", "steps", "train", "train_size", "batch", "train_seed")
NO_RUN, EXAMPLE = "none", "example"
"""What stands for a run's name where there is none, and where the recorded one is shown."""
_POLL_SECONDS, _REST_SECONDS, _LEAVE_SECONDS = 1.0, 0.15, 10.0
IN_SIGHT = """() => {
  if (matchMedia("(max-width: 760px)").matches) document.querySelector("#run-buttons").scrollIntoView();
}"""
"""JavaScript: on a narrow page the form hides what it begins."""


def build(page: Page) -> Follows:
    """A form, the run that it begins, and the files that come of it."""
    column, own = page.column, page.column.students
    form = _build_form(page)
    with gr.Row(elem_id="run-buttons"):
        # Not before `restore` has run, which would else undo what the run says of these three.
        start = gr.Button("Start", variant="primary", elem_id="start-run", interactive=False, min_width=90)
        stop = gr.Button("Stop", elem_id="stop-run", interactive=False, min_width=90)
        resume = gr.Button("Resume", elem_id="resume-run", interactive=False, min_width=90)
    status, line = status_and_mark("run")
    view = browser_view("recoveryview", "recovery-view")
    with gr.Row(elem_id="repeating", equal_height=True):
        changed = gr.Dropdown(
            list(beside.CHANGES), value=list(beside.CHANGES)[1], label="Repeat the run that is shown", elem_id="changed"
        )
        repeat = gr.Button("Repeat", elem_id="repeat-run", interactive=False, min_width=90, scale=0)
    others = gr.CheckboxGroup(
        [],
        label="Your other runs, and what sets them apart",
        info=f"Choose up to {runs.MOST_BESIDE}: they stand beside the one that is shown.",
        elem_id="runs-beside",
        visible=False,
    )
    with gr.Row():
        # Of the run above: a shipped student is in the project's folder already.
        saving: dict[str, Any] = {"size": "sm", "min_width": 120, "interactive": False}
        student = gr.Button("Save student", elem_id="save-student", **saving)
        animation = gr.Button("Save animation", elem_id="save-animation", **saving)
        upload = gr.UploadButton(
            "Open a student's file", file_types=[".zip"], elem_id="open-student", size="sm", min_width=120
        )
        student_file = gr.DownloadButton("student", visible="hidden", elem_id="student-file")
        animation_file = gr.DownloadButton("animation", visible="hidden", elem_id="animation-file")
    current, made = gr.State(None), gr.State(None)  # None is a page of which it is not known yet if it has a run
    follows = [view, current, made, own, start, stop, resume, student, animation, repeat, others]
    runs_on: dict[str, Any] = {"concurrency_limit": LIMITS.waiting, "trigger_mode": "once", **QUICK}
    start.click(None, js=IN_SIGHT, **PRIVATE)
    begun = start.click(_start, [own, page.zipped, page.selected, *form, *column.inputs], [status, *follows], **runs_on)
    resumed = resume.click(_resume, [own, current, *column.inputs], [status, *follows], **runs_on)
    again = repeat.click(_repeat, [own, current, made, changed, *column.inputs], [status, *follows], **runs_on)
    others.input(_put_beside, [own, current, others], [view, others], **QUICK)
    for ended in (begun, resumed, again):
        offered = [page.shown, own, current, column.backbone, column.pair]
        page.redraw_after(ended.then(_offer, offered, column.pair, **PRIVATE))
    stop.click(_stop, current, stop, **AT_ONCE)
    for brought in (page.zipped, page.selected):
        brought.change(lambda: "", outputs=status, **QUICK)
    saved = student.click(_student_file, current, student_file, **PRIVATE)
    saved.success(None, js=CLICK.format("student-file"), **PRIVATE)
    saved = animation.click(_animation_file, current, animation_file, **PRIVATE)
    saved.success(None, js=CLICK.format("animation-file"), **PRIVATE)
    given, taken = [upload, own, column.backbone], [status, own, column.recalled, column.backbone, column.pair]
    opened = upload.upload(_take_in, given, taken, **PRIVATE)
    page.redraw_after(opened.success(None, column.recalled, js=REMEMBER, **PRIVATE))
    restored = page.load(restore, column.recalled, follows, **OPENING)
    for event in (page.opened, restored):
        event.then(first, [page.shown, current], [view, current], **QUICK)
    page.linked(first, [page.shown, current], [view, current], **QUICK)
    pictures, learned, *_, steps, trainable, size, batch, _ = form
    asked = (pictures, steps, trainable, size, batch)
    changes = tuple(control.change for control in asked)
    fields = tuple(
        Field(name, control, ex.distortion if control is learned else str)
        for name, control in zip(FIELDS, form, strict=True)
    )
    return Follows((made, page.zipped, page.selected, *asked), (line,), changes, fields, current)


def follow(
    question: Question,
    made: Made | None,
    zipped: Path | None,
    selected: Selection,
    chosen: str,
    steps: int,
    trainable: str,
    size: int,
    batch: int,
) -> list[Any]:
    """How long a run will take here; and what the run that is shown was started with, once that is not so any more."""
    teacher = question.teacher()

    def lasts(side: int) -> str:
        config = runs.configuration(question.damage.spec, int(steps), side, batch_size=int(batch), trainable=trainable)
        seconds = pace.seconds_of_a_run(teacher, config, first_look.forwards_a_picture())
        return "" if seconds is None else pace.in_words(seconds)

    small = min(runs.SIZES)
    long = f": about {known} on this machine" if (known := lasts(size)) else ""
    if long and size > small and (known := lasts(small)):
        long += f", {known} at {small} px"
    source = source_of(chosen, zipped, selected)
    try:
        with told():
            count = len(picture_set(source, size)[0])
        taken = f", from {count} {html.escape(title(source))}" if isinstance(source, Selection) else ""
        offer = f"<b>Start</b> a run of {int(steps)} steps of {int(batch)} pictures at {size} px{taken}{long}."
    except ToldError as error:
        offer = f"{html.escape(str(error))}."
    now = _watching(question)
    return [mark(made if made is not None and made.of != now else None, now, offer)]


def first(shown: str, current: str | None) -> list[Any]:
    """(view, run): the recorded run, where the visitor has none."""
    recorded = first_look.recorded_run() if shown == "train" and current == NO_RUN else None
    return [gr.skip(), gr.skip()] if recorded is None else [recorded, EXAMPLE]


def _build_form(page: Page) -> tuple[Any, ...]:
    column = page.column
    weights = ex.DistillConfig().settled(column.backbone.value).weights
    with gr.Row():
        with gr.Column(min_width=240):
            pictures = choose_pictures(
                page, "learn-from", of_map=True, label="Learn from", info="Pictures need no labels."
            )
            steps = gr.Slider(5, min(500, LIMITS.steps), runs.STEPS, step=5, label="Steps", elem_id="steps")
        with gr.Column(min_width=240):
            strength = gr.Radio([FIXED, VARYING], value=FIXED, label="Strength", elem_id="strength")
            low = gr.Slider(visible=False, label="from", elem_id="strength-low")
            high = gr.Slider(visible=False, label="to", elem_id="strength-high")
            learned = gr.Textbox(
                DEFAULT_DISTORTION,
                label="Distortion to learn",
                info="Ranges are drawn per picture: sigma=0.1..0.4. So are mixtures: gaussian_blur | pixel_mask.",
                elem_id="learned",
                max_lines=3,
            )
        with gr.Column(min_width=240):
            levels = [
                gr.Slider(0, 5, weights[name], step=0.1, label=label, elem_id=f"level-{name}")
                for name, label in (
                    ("cls", "Weight of the class token"),
                    ("patch", "Weight of the patch features"),
                    ("attention", "Weight of the attention maps"),
                )
            ]
    with gr.Accordion("What is trained, how large, which seed", open=False), gr.Row():
        trainable = gr.Dropdown(TRAINABLE, value=ex.DistillConfig.trainable, label="Train", elem_id="trainable")
        size = gr.Radio(list(runs.SIZES), value=runs.SIZES[-1], label="Size in pixels", elem_id="train-size")
        batch = gr.Slider(2, 32, runs.BATCH, step=1, label="Pictures per step", elem_id="batch")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS - 1, elem_id="train-seed")
    varied: dict[str, Any] = {"inputs": [column.spec, strength], "outputs": [low, high, learned], **QUICK}
    strength.input(_ranges, **varied)
    column.later.append(lambda: column.spec.change(_ranges, **varied))
    page.linked(_described, [page.link, column.spec, learned], [strength, low, high, learned], **QUICK)
    column.backbone.input(attention_weight, column.backbone, levels[-1], **AT_ONCE)
    for slider in (low, high):
        slider.input(_varied, [column.spec, low, high], learned, **QUICK)
    return (pictures, learned, *levels, steps, trainable, size, batch, seed)


def restore(recalled: Any, request: gr.Request) -> list[Any]:
    """The run that the page's link tells, as it is now; or what the browser's last one was, for a page that was opened
    again."""
    kept = students.still_there(recalled)
    shared = dict(request.query_params).get("run") if request else None
    run = RUNS.remembered(shared) if shared else None
    if run is not None and run.name not in kept:
        return _looked_at(run, "The run of the link that opened this page.", kept)
    run = run or (RUNS.remembered(kept[0]) if kept else None)
    if run is None:
        return [None, NO_RUN, None, kept, *_buttons(None), _listed(kept, None)]
    _await_end(run)
    if not run.ended:
        return _looked_at(run, "Your last run, of another page.", kept)
    return [beside.payload_of(run), run.name, None, kept, *_buttons(run), _listed(kept, run)]


def _looked_at(run: Run, told: str, kept: list[str]) -> list[Any]:
    """A run that another page follows; without its name in what is shown, which this page would take for its own."""
    payload = run.payload(RUNS.ahead(run))
    goes_on = "" if run.ended else "It goes on: reload this page to see how far it is."
    said = " ".join(part for part in (told, goes_on, payload["message"]) if part)
    return [
        {**payload, "run": None, "message": said},
        run.name,
        None,
        kept,
        *_buttons(run, own=False),
        _listed(kept, None),
    ]


def _await_end(run: Run) -> None:
    """The page that followed it may have been closed or reloaded just now: then it ends within a step."""
    version, last = -1, time.monotonic() + _LEAVE_SECONDS
    while not run.ended and time.monotonic() < last:
        version = run.wait(version, _POLL_SECONDS)


def _start(
    own: list[str],
    zipped: Path | None,
    selected: Selection,
    chosen: str,
    learned: str,
    cls: float,
    patch: float,
    attention: float,
    steps: int,
    trainable: str,
    size: int,
    batch: int,
    seed: float | None,
    *column: Any,
) -> Iterator[list[Any]]:
    try:
        with told():
            source = source_of(chosen, zipped, selected)
            picture_set(source, size)  # before a run takes the place of what is shown
            levels = {"cls": cls, "patch": patch, "attention": attention}
            config = runs.configuration(
                learned, steps, size, batch_size=int(batch), trainable=trainable, seed=whole("seed", seed), **levels
            )
            question = Question.read(*column)
            run = RUNS.start(question.backbone, config, source, _watched(question))
    except ToldError as error:
        yield _told(error)
        return
    yield from _follow(run, own, _made(question))


def _resume(own: list[str], name: str | None, *column: Any) -> Iterator[list[Any]]:
    try:
        with told():
            question = Question.read(*column)
            run = RUNS.resume(name or "", _watched(question))
    except ToldError as error:
        yield _told(error)
        return
    yield from _follow(run, own, _made(question))


def _repeat(own: list[str], name: str | None, made: Made | None, changed: str, *column: Any) -> Iterator[list[Any]]:
    """The run that is shown, with one thing changed; it watches the same picture, whatever the left column shows."""
    try:
        with told():
            question = Question.read(*column)
            earlier = RUNS.find(name)
            known = earlier is not None and earlier.watched is not None
            run = RUNS.repeat(name or "", beside.CHANGES[changed], None if known else _watched(question))
    except ToldError as error:
        yield _told(error)
        return
    yield from _follow(run, own, made or _made(question))


def _put_beside(own: list[str], name: str | None, chosen: list[str]) -> list[Any]:
    """(view, list): the latest choices, as many as there is room for."""
    run = RUNS.remembered(name or "")
    if run is None:
        return [gr.skip(), gr.skip()]
    run.beside = tuple(chosen[-runs.MOST_BESIDE :])
    run.happened()  # for whoever follows it
    return [beside.payload_of(run) if run.ended else gr.skip(), _listed(own, run)]


def _listed(own: list[str], run: Run | None) -> gr.CheckboxGroup:
    """The visitor's other runs; those beside the one that is shown are ticked."""
    choices = beside.listed(own, run)
    names = [name for _, name in choices]
    value = [name for name in run.beside if name in names] if run is not None else []
    return gr.CheckboxGroup(choices, value=value, visible=bool(choices))


def _told(error: ToldError) -> list[Any]:
    return [notice(error), *[gr.skip()] * 11]


def _watched(question: Question) -> Watched:
    if not question.picture:
        raise InputError("there is no picture in the left column to be watched: choose one")
    if question.way == DAMAGED:
        raise InputError("a run is watched beside what the teacher sees in a clean picture: choose one, or give a pair")
    if question.way == PAIR:
        question.seen()  # what does not fit is told before the run
    return Watched(
        path=question.picture,
        distortion=question.damage.spec,
        seed=question.seed,
        photo=question.photo,
        crop=question.crop,
        twin=question.twin,
        align=question.align,
    )


def _watching(question: Question) -> Question:
    """What of the left column a run depends on."""
    return replace(question, student="", layer=None, beside=())


def _made(question: Question) -> Made:
    return Made(_watching(question), f"{question.damaged_by} on {question.backbone}, this run")


def _follow(run: Run, own: list[str], made: Made) -> Iterator[list[Any]]:
    """Everything that happens, a few times a second; whoever goes away ends the run."""
    names = [run.name, *(name for name in own if name != run.name)]
    version, others = -1, _listed(names, run)
    try:
        while True:
            ended = run.ended
            yield ["", beside.payload_of(run), run.name, made, names, *_buttons(run), others]
            if ended:
                return
            others = gr.skip()  # it is the visitor's to change
            time.sleep(_REST_SECONDS)
            version = run.wait(version, _POLL_SECONDS)
    finally:
        RUNS.stop(run)


def _buttons(run: Run | None, own: bool = True) -> list[gr.Button]:
    """Start, Stop, Resume, Save student, Save animation and Repeat as a run allows them; others' is only looked at."""
    goes_on = own and run is not None and not run.ended
    kept = run is not None and students.folder_of(run.name) is not None
    possible = (
        not goes_on,
        goes_on,
        own and run is not None and run.resumable,
        kept,
        run is not None and bool(run.moments),
        own and kept and not goes_on,
    )
    return [gr.Button(interactive=each) for each in possible]


def _stop(name: str | None) -> gr.Button:
    run = RUNS.find(name)
    if run is not None:
        RUNS.stop(run)
    return gr.Button(interactive=False)


def _offer(shown: str, own: list[str], name: str | None, backbone: str, pair: str) -> gr.Dropdown:
    """The list of students with the new one; it is chosen unless the visitor looks at something else by now."""
    choices = models.offered_students(backbone, own)
    finished = shown == "train" and name in [each for _, each in choices]
    return gr.Dropdown(choices, value=name if finished else pair)


def _take_in(file: str, own: list[str], backbone: str) -> list[Any]:
    try:
        with told():
            name = students.take_in(file)
            backbone = models.card_of(name)["backbone"]
    except ToldError as error:
        return [notice(error), *[gr.skip()] * 4]
    names = [name, *own]
    return [notice(), names, names, backbone, gr.Dropdown(models.offered_students(backbone, names), value=name)]


def _student_file(current: str | None) -> Any:
    """The student of the last run, as one file."""
    folder = students.folder_of(current or "")
    with refused():
        if folder is None:
            raise InputError("there is no student yet: start a run on this page first")
        target = export_pair(folder, Path(saved_files(), f"{current}.zip"))
    return gr.DownloadButton(value=str(target))


def _animation_file(current: str | None) -> Any:
    run = RUNS.find(current)
    recovery = run.recovery if run is not None else None
    with refused():
        if recovery is None or run is None:
            raise InputError("there is no recording: start a run on this page first")
        target = Path(saved_files(), f"{run.name}.gif")
        with atomic_path(target) as part:
            part.write_bytes(ex.animate_recovery(recovery))
    return gr.DownloadButton(value=str(target))


def _ranges(spec: str, strength: str) -> list[Any]:
    """Two sliders for the strength of a single operator, from its weakest to the value on the left, and the text."""
    found = _strength(spec)
    if strength == FIXED or found is None:
        return [gr.Slider(visible=False), gr.Slider(visible=False), spec]
    parameter, value = found
    weakest = max(parameter.low, 0)  # on the way to a negative value, too
    low, high = sorted((parameter.nearest(round(weakest + (value - weakest) / 4, 6)), value))
    return [*_sliders(parameter, low, high), _varied(spec, low, high)]


def _sliders(parameter: Parameter, low: float, high: float) -> list[gr.Slider]:
    """A range of strengths."""
    bounds: dict[str, Any] = {"minimum": parameter.low, "maximum": parameter.high, "step": parameter.step}
    return [
        gr.Slider(value=each, visible=True, label=f"{parameter.name} {word} ({parameter.unit})", **bounds)
        for word, each in (("from", low), ("to", high))
    ]


def _described(link: dict[str, str] | None, spec: str, learned: str) -> list[Any]:
    """(strength, from, to, text) as a link says; where it does not, the damage of the left column is learned."""
    text = learned if link is not None and "learned" in link else spec
    found = _strength(spec)
    steps = [step for branch in ex.distortion(text).branches for step in branch]
    given = dict(steps[0].values).get(found[0].name) if found is not None and len(steps) == 1 else None
    if isinstance(given, tuple) and _varied(spec, *given) == ex.distortion(text).spec:
        return [VARYING, *_sliders(found[0], *given), text]
    return [FIXED, *_ranges(spec, FIXED)[:2], text]


def _varied(spec: str, low: float, high: float) -> str:
    """The operator of the left column with a range of strengths."""
    found = _strength(spec)
    if found is None:
        return spec
    parameter, _ = found
    step = ex.distortion(spec).branches[0][0]
    low, high = sorted((low, high))
    if parameter.integer:
        low, high = round(low), round(high)
    return ex.distortion(step.name, clip=step.clip or None, **{**dict(step.values), parameter.name: (low, high)}).spec


def _strength(spec: str) -> Any:
    """The parameter that says how strong a single operator is, and its value; None where there is no such."""
    branches = ex.distortion(spec).branches
    if len(branches) != 1 or len(branches[0]) != 1:
        return None
    step = branches[0][0]
    entry = ex.DISTORTIONS[step.name]
    parameter = next((each for each in entry.parameters if each.name == entry.strength), None)
    value = dict(step.values).get(parameter.name) if parameter is not None else None
    return None if value is None or isinstance(value, tuple) else (parameter, value)


TAB = Tab(
    id="train",
    label="Train",
    help=HELP,
    build=build,
    follow=follow,
    told=lambda run: {} if run in (None, NO_RUN, EXAMPLE) else {"run": run},
)
