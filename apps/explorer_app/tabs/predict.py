"""Predict tab: what linear probes of teacher and student see in the picture, whole and damaged."""

import html
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

import explorer as ex
from explorer.errors import InputError
from explorer.evaluation.features import Told
from explorer.evaluation.predicting import class_names, likeliest
from explorer.scenes.common import picture_of
from explorer.system.files import file_digest, readable
from explorer_app.events import AT_ONCE, PRIVATE, QUICK, refused
from explorer_app.service import probes
from explorer_app.service.background import Background
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.models import UNTOUCHED
from explorer_app.service.pace import in_words, seconds_a_picture
from explorer_app.service.pictures import PHOTOS, Source, source_of, title
from explorer_app.service.question import Question
from explorer_app.tabs.shared import (
    CLICK,
    MADE,
    Field,
    Fitted,
    Follows,
    Page,
    Tab,
    asks_for,
    bar,
    choose_pictures,
    mark,
    saved_files,
    status_and_mark,
)

HELP = """
A **linear probe** is fitted on labelled pictures, whole ones, for the teacher and another for the student: all that it
knows are the features that the frozen model makes of them. Then it says what it sees in the picture of the left column,
and follows the damage as you change it. The class that the teacher sees in the clean picture is the reference; its bar
has the accent. Chances are those among the classes that were fitted on: of anything else they say one of these, too.
"""
QUEUE: dict[str, Any] = {"concurrency_id": "probes", "concurrency_limit": 1, **PRIVATE}
TITLES = {
    "teacher_clean": ("teacher", "clean"),
    "teacher_distorted": ("teacher", "damaged"),
    "student_distorted": ("student", "damaged"),
}
WHO = ("teacher", "student")
UPLOAD_LABELS = "Upload labels (CSV)"
TOP = 5
_WATCH_SECONDS = 0.4


def build(page: Page) -> Follows:
    """Fits on request, or unasked what is ready; what the probes see follows the left column."""
    with gr.Row(elem_id="probe-form"):
        info = "One folder for each class; or any, with a CSV file of labels."
        chosen = choose_pictures(page, "probe-pictures", label="Pictures of known classes", info=info)
        labels = gr.State(None)
        upload = gr.UploadButton(
            UPLOAD_LABELS, file_types=[".csv", ".tsv", ".txt"], elem_id="probe-labels", size="sm", visible=False
        )
    with gr.Row(elem_id="probe-buttons"):
        start = gr.Button("Fit", variant="primary", elem_id="fit-probes", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-probes", min_width=90)
    status, line = status_and_mark("probe")
    said = gr.HTML(elem_id="seen-said", elem_classes=[MADE, "said"], padding=False)
    view, made = gr.HTML(elem_id="seen", elem_classes=MADE, padding=False), page.probed
    with gr.Row(elem_id="probe-files"):
        saving: dict[str, Any] = {"size": "sm", "min_width": 120}
        files = [gr.Button(f"Save the {who}'s probe", elem_id=f"save-{who}-probe", **saving) for who in WHO]
        file = gr.DownloadButton("probe", visible="hidden", elem_id="probe-file")
    column = page.column.inputs
    form = [page.zipped, chosen, labels]
    hidden: dict[str, Any] = {"show_progress": "hidden", **QUEUE}
    unasked: dict[str, Any] = {"inputs": [page.shown, page.link, made, *form, *column], "outputs": [made, status]}
    fitted = [start.click(fit, [*form, *column], [made, status], **hidden)]
    fitted += [event(first, **unasked, **hidden) for event in (page.opened.then, page.linked)]
    for event in fitted:
        page.redraw_after(event)
    stop.click(lambda: "", outputs=status, cancels=fitted, **AT_ONCE)
    upload.upload(_take_labels, upload, [labels, upload], **PRIVATE)
    for event in (chosen.change, page.zipped.change):  # labels are those of the pictures that they came for
        event(_without_labels, chosen, [labels, upload, status], **QUICK)
    for who, button in zip(WHO, files, strict=True):
        saved = button.click(_saver(who), [made, *form, *column], file, **PRIVATE)
        saved.success(None, js=CLICK.format("probe-file"), **PRIVATE)
    changes = (chosen.change, labels.change)
    return Follows((made, *form), (line, said, view, made), changes, (Field("pictures", chosen),), made)


def follow(question: Question, made: Fitted | None, zipped: Path | None, chosen: str, labels: Path | None) -> list[Any]:
    """(line, sentence, view, what was fitted): what the probes see now; those of other models stay, and say so, unless
    new ones are ready."""
    source = source_of(chosen, zipped)
    now, offer, kept = probes.asked(question, source, labels), _offer(question, source, labels), gr.skip()
    if made is not None and made.of != now and _is_quick(question, source, labels):
        images, note = probes.labelled(source, labels, question.size)
        kept = made = _made(question, source, labels, images, note, probes.fit(question, images))
    line = mark(made, now, offer)
    if made is None or made.of != now or question.picture is None:
        return [line, gr.skip(), gr.skip(), kept]
    seen = probes.see(question, made.key)
    return [line, f'<p class="seen-said">{html.escape(say(seen))}</p>', _drawn(question, seen), kept]


def fit(zipped: Path | None, chosen: str, labels: Path | None, *column: Any) -> Iterator[list[Any]]:
    """(what was fitted, status) as the work goes on."""
    try:
        yield [gr.skip(), bar("getting ready")]
        with told():
            question = Question.read(*column)
            source = source_of(chosen, zipped)
            images, note = probes.labelled(source, labels, question.size)
            work = Background(lambda progress: _fitted(question, images, progress))
            for done, total in work.watch(_WATCH_SECONDS):
                words = f"{done} of {total} views of pictures" if done else "loading"
                yield [gr.skip(), bar(words, done, total, work.left)]
            yield [_made(question, source, labels, images, note, work.result), ""]
    except ToldError as error:
        yield [gr.skip(), notice(error)]


def first(
    shown: str,
    link: dict[str, str] | None,
    made: Fitted | None,
    zipped: Path | None,
    chosen: str,
    labels: Path | None,
    *column: Any,
) -> Iterator[list[Any]]:
    """As `fit`, unasked: what is ready, and what the page's link says, unless there is something already."""
    yield [gr.skip()] * 2  # else what yields nothing clears its outputs
    if shown != "predict" or made is not None:
        return
    try:
        with told():
            wanted = _is_quick(Question.read(*column), source_of(chosen, zipped), labels) or asks_for(link, shown)
    except ToldError:
        wanted = True  # it is told in the same way
    if wanted:
        yield from fit(zipped, chosen, labels, *column)


def say(seen: probes.Seen) -> str:
    """What becomes of the answer, in one plain sentence made from the numbers."""
    best = {view: likeliest(seen.classes, row, 1)[0] for view, row in seen.chances.items()}
    told = {view: f"{name} ({_percent(chance)})" for view, (name, chance) in best.items()}
    damaged, student = told["teacher_distorted"], told.get("student_distorted")
    there = "; the student is its untouched copy" if student is None else f"; the student sees {student} there"
    if "teacher_clean" not in told:
        return f"The teacher sees {damaged} in the damaged picture{there}."
    kept = best["teacher_distorted"][0] == best["teacher_clean"][0]
    between = "and still" if kept else "but"
    return (
        f"The teacher sees {told['teacher_clean']} in the clean picture, {between} {damaged} in the damaged one{there}."
    )


def _fitted(question: Question, images: ex.ImageSet, progress: Told) -> str:
    """The key of the fit, whose probes for the picture of the left column are ready, too."""
    key = probes.fit(question, images, progress)
    probes.probes(question, key)
    return key


def _made(question: Question, source: Source, labels: Path | None, images: ex.ImageSet, note: str, key: str) -> Fitted:
    now, words = probes.asked(question, source, labels), _words(question, source, len(images), note)
    return Fitted(now, words, key=key, classes=tuple(sorted(set(class_names(images)))))


def _is_quick(question: Question, source: Source, labels: Path | None) -> bool:
    """Whether nobody has to wait: the features come with the project, or were kept."""
    return source == PHOTOS and probes.is_quick(question, probes.labelled(source, labels, question.size)[0])


def _drawn(question: Question, seen: probes.Seen) -> str:
    """The views beside each other, each with the classes that are likeliest to it."""
    pictures = dict(zip(("clean", "distorted"), question.seen()[:2], strict=True))
    reference = likeliest(seen.classes, next(iter(seen.chances.values())), 1)[0][0]
    cards = "".join(
        _card(view, seen, picture_of(pictures[view.split("_")[1]]), reference)  # type: ignore[arg-type]
        for view in seen.chances
    )
    fitted = f"Fitted on {seen.pictures} clean pictures."
    if seen.own is not None:
        fitted += f" The picture is one of that set, of the class {html.escape(seen.own)}, and was left out"
        fitted += "." if seen.own in seen.classes else "; no other one shows this class, so that no probe knows it."
    return f'<div class="vx"><div class="seen-cards">{cards}</div><p class="vx-hint">{fitted}</p></div>'


def _card(view: str, seen: probes.Seen, picture: str, reference: str) -> str:
    """What one view sees: the likeliest classes, and in any case that of the reference."""
    who, state = TITLES[view]
    ranked = likeliest(seen.classes, seen.chances[view], len(seen.classes))
    shown = [*ranked[:TOP], *(each for each in ranked[TOP:] if each[0] == reference)]
    rows = "".join(
        f"<tr{' class=as-reference' if name == reference else ''}><th scope=row>{html.escape(name)}</th>"
        f'<td><i style="width:{100 * chance:.1f}%"></i></td><td>{_percent(chance)}</td></tr>'
        for name, chance in shown
    )
    badge = " <small>reference</small>" if view == "teacher_clean" else ""
    return (
        f'<section class="seen-card" data-view="{view}" aria-label="{who}, {state}">'
        f'<p class="seen-title">{who.capitalize()}, {state}{badge}</p><img src="{picture}" alt="the {state} picture">'
        f'<table><caption class="vx-sr">What the {who} sees in the {state} picture</caption>'
        '<thead class="vx-sr"><tr><th scope="col">class</th><th scope="col">bar</th><th scope="col">chance</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></section>"
    )


def _percent(chance: float) -> str:
    """Never 0 or 100 % of what is neither."""
    if chance < 0.005:
        return "< 1 %"
    return "> 99 %" if chance > 0.995 else f"{100 * chance:.0f} %"


def _words(question: Question, source: Source, count: int, note: str) -> str:
    """Of what the probes are, in one line."""
    parts = (f"{count} {title(source)}", f"{question.backbone} at {question.size} px", question.student, note)
    return " · ".join(part for part in parts if part)


def _offer(question: Question, source: Source, labels: Path | None) -> str:
    """What Fit would do, and how long it would take at most: features may be kept from before."""
    try:
        with told():
            count = len(probes.labelled(source, labels, question.size)[0])
    except ToldError as error:
        return f"{html.escape(str(error))}."
    networks = 1 if question.student == UNTOUCHED else 2
    seconds = in_words(networks * count * seconds_a_picture(question.teacher()))
    return f"Press <b>Fit</b> for {html.escape(_words(question, source, count, ''))}: {seconds} at most."


def _without_labels(chosen: str) -> list[Any]:
    """(labels, what uploads them, status) for other pictures; the shipped ones have their classes."""
    return [None, gr.UploadButton(UPLOAD_LABELS, visible=chosen != PHOTOS), ""]


def _take_labels(file: str) -> list[Any]:
    return [Path(file), gr.UploadButton(f"{readable(Path(file).name)} · another")]


def _saver(who: str) -> Any:
    """What writes the probe of the teacher or of the student, as it is shown."""

    def save(made: Fitted | None, zipped: Path | None, chosen: str, labels: Path | None, *column: Any) -> Any:
        with refused():
            question = Question.read(*column)
            if made is None or made.of != probes.asked(question, source_of(chosen, zipped), labels):
                raise InputError("there is no probe of these models and pictures yet: press Fit first")
            probe = probes.probes(question, made.key)[0][who]
            with tempfile.TemporaryDirectory(dir=saved_files()) as folder:
                written = probe.save(Path(folder, "probe"))
                target = Path(saved_files(), f"{who}-probe-{file_digest(written)[:12]}.safetensors")
                os.replace(written, target)  # by its content: nobody is given another visitor's
        return gr.DownloadButton(value=str(target))

    return save


def _told(made: Fitted | None) -> dict[str, str]:
    """That probes were fitted, for a link.

    Raises:
        InputError: by a file of labels, which no link leads to.
    """
    if made is None:
        return {}
    if made.of[-1] is not None:
        raise InputError("No link leads to a file of labels of your own: it stays between you and this server.")
    return {"made": "1"}


TAB = Tab(
    id="predict",
    label="Predict",
    help=HELP,
    build=build,
    follow=follow,
    told=_told,
)
