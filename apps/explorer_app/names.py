"""What screen readers are told of Gradio's own parts, where it tells them nothing or too little."""

GIVE_NAMES = """() => {
  let known = 0;
  const give = () => {
    for (const group of document.querySelectorAll("fieldset:not([aria-labelledby])")) {
      const label = group.querySelector("[data-testid='block-info']");
      if (!label) continue;
      label.id ||= `group-name-${++known}`;
      group.setAttribute("aria-labelledby", label.id);
    }
    for (const thumbnail of document.querySelectorAll(".thumbnail-item[aria-label^='Thumbnail']")) {
      const name = thumbnail.querySelector("img")?.alt;
      if (name) thumbnail.setAttribute("aria-label", name);
    }
    for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
    const lines = document.querySelectorAll(":is(.line-mark, .said):not([aria-live])");
    for (const line of lines) line.setAttribute("aria-live", "polite");
    for (const told of document.querySelectorAll(".sr-only[role='status'][aria-atomic]")) {
      told.removeAttribute("role"); // Gradio's own says "common.complete"; what came of it is told by the views
      told.setAttribute("aria-live", "off");
    }
  };
  give();
  // Our own views name their parts, and change with every move of the pointer.
  const ofGradio = ({ target }) => !target.closest(".vx-mount");
  const watch = new MutationObserver((changes) => changes.some(ofGradio) && give());
  watch.observe(document.body, { childList: true, subtree: true });
}"""
"""JavaScript for a page that opens: groups of radio buttons by their labels, samples by what is on them; also those
that come later, in a tab or a fold that is opened."""
