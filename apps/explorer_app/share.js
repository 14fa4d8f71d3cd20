// Copies the link to what the page shows. Enters: what Gradio hands to the script of an HTML element (props.value is the
// server's answer: {query} of tab, left column and controls, or {reason} for which there is no link). Leaves: the event
// "copy"; the address, with what the open tab's view adds, on the clipboard, or on the page where that is not allowed.

const SHOWN_MS = 6000;

/** @param {{ element: HTMLElement, props: any, watch: Function, trigger: Function }} host */
export function share({ element, props, watch, trigger }) {
  const find = (which) => /** @type {any} */ (element.querySelector(which));
  const [button, answer, status, address] = [find("button"), find(".share-answer"), find("[role=status]"), find("input")];
  let fading = 0;

  function report(text, link = "") {
    clearTimeout(fading);
    answer.hidden = false;
    status.textContent = text;
    address.hidden = !link;
    address.value = link;
    if (link) return address.select(); // stays until the next one: somebody has to copy it
    fading = window.setTimeout(() => (answer.hidden = true), SHOWN_MS);
  }

  async function answered() {
    if (!props.value?.at) return;
    if (!props.value.query) return report(props.value.reason);
    const link = linkTo(props.value.query);
    report(...((await copyText(link)) ? ["link copied"] : ["copy it from here:", link]));
  }

  button.onclick = () => trigger("copy");
  answer.addEventListener("keydown", (event) => event.key === "Escape" && (answer.hidden = true));
  watch("value", answered);
}

/** This page's address with these query parameters and those of the view that is seen, and no others (they may be private). */
function linkTo(query) {
  const views = /** @type {any[]} */ ([...document.querySelectorAll("#tabs .vx-mount")]);
  const seen = views.find((mount) => mount.offsetParent !== null)?.view;
  const url = new URL(location.href);
  url.hash = "";
  url.search = "";
  for (const [name, value] of Object.entries({ ...seen?.link(), ...query })) {
    if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
  }
  return url.href;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard on plain http, or not allowed: the old way, then the address on the page.
  }
  const area = Object.assign(document.createElement("textarea"), { value: text, ariaHidden: "true" });
  Object.assign(area.style, { position: "fixed", opacity: 0 });
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
  }
}
