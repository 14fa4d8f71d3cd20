// A story in five steps, told beside the page while it moves the page's own controls. Enters: the element that holds its
// card. Leaves: clicks and values, as a visitor would give them.

const KEPT = "vit-explorer.tour";
const STRENGTH = "#parameter-0 input[type=number]";
const STEPS = [
  {
    title: "What the model looks at",
    text: "A Vision Transformer cuts the picture into square patches. Its class token gathers from all of them what the picture shows; attention is the share that it takes from each. Bright patches count most. Nothing is damaged yet: both rows look at the owl.",
    tab: "Attention",
    target: "#attention-view",
    strength: 0,
  },
  {
    title: "Damage the picture",
    text: "Noise grows, and the teacher, the model as it is, loses what it saw: compare its two maps. Drag this slider yourself.",
    tab: "Attention",
    target: "#parameter-0",
    strength: 1,
  },
  {
    title: "Bring in the student",
    text: "A copy of the same model that was trained to see in damaged pictures what its teacher sees in clean ones. Same noise, and its map stays on the owl. Choose another student here, or an untouched copy.",
    tab: "Attention",
    target: "#student",
    strength: 1,
  },
  {
    title: "Point at a patch",
    text: "Move the pointer over any picture, or use the arrow keys: all views show which patches resemble this one. A patch of the owl is pinned: the noise makes the teacher find it elsewhere; the student finds it in its place.",
    tab: "Patches",
    target: "#patch-view",
    strength: 1,
  },
  {
    title: "Train your own",
    text: "This run was recorded: map by map the student recovers what its teacher sees. Start makes one of your own, with your damage and your pictures.",
    tab: "Train",
    target: "#start-run",
    strength: 1,
  },
];

/** Builds the card inside `element`; it opens on the first visit, and where the address says `?tour=1`. @param {{ element: HTMLElement }} host */
export function tour({ element }) {
  const card = /** @type {HTMLElement} */ (element.querySelector("#tour"));
  const find = (which) => /** @type {HTMLElement} */ (card.querySelector(which));
  const [back, next, skip] = ["back", "next", "skip"].map((name) => /** @type {HTMLButtonElement} */ (find(`.${name}`)));
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  let step = 0;
  let full = NaN; // the strength that the page opened with
  let moving = 0;

  const slider = () => /** @type {HTMLInputElement | null} */ (document.querySelector(STRENGTH));
  function give(value) {
    const input = slider();
    if (!input || input.value === String(value)) return;
    input.value = String(value);
    for (const name of ["input", "change", "blur"]) input.dispatchEvent(new Event(name, { bubbles: true }));
  }

  function move(share) {
    clearInterval(moving);
    const low = Number(slider()?.min ?? 0);
    const to = low + share * (full - low);
    if (share === 0 || still.matches || Number(slider()?.value) === to) return give(to);
    let part = 0;
    moving = window.setInterval(() => {
      part = Math.min(1, part + 0.25);
      give(Number((low + part * (to - low)).toFixed(3)));
      if (part === 1) clearInterval(moving);
    }, 900);
  }

  const unmark = () => document.querySelectorAll("[data-tour]").forEach((node) => node.removeAttribute("data-tour"));
  function show(number) {
    step = number;
    const { title, text, tab, target, strength } = STEPS[step];
    const tabs = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#tabs [role=tab]")]);
    tabs.find((each) => each.textContent?.trim() === tab)?.click();
    move(strength);
    find("h2").textContent = title;
    find("p").textContent = text;
    find(".count").textContent = `${step + 1} of ${STEPS.length}`;
    back.disabled = step === 0;
    next.textContent = step === STEPS.length - 1 ? "Done" : "Next";
    unmark();
    window.setTimeout(() => {
      const marked = document.querySelector(target);
      marked?.setAttribute("data-tour", "");
      marked?.scrollIntoView({ block: "nearest" });
    }, 300);
    find("h2").focus({ preventScroll: true });
  }

  function open() {
    if (Number.isNaN(full)) full = Number(slider()?.value);
    card.hidden = false;
    show(0);
  }

  function close() {
    clearInterval(moving);
    if (step === 0) give(full);
    unmark();
    card.hidden = true;
    remember();
  }

  back.onclick = () => show(step - 1);
  next.onclick = () => (step === STEPS.length - 1 ? close() : show(step + 1));
  skip.onclick = close;
  card.addEventListener("keydown", (event) => event.key === "Escape" && close());
  document.addEventListener("vx-tour", open);
  const wanted = new URLSearchParams(location.search).get("tour") === "1";
  if (wanted || (!location.search && !remembered())) whenDrawn(open);
}

function remembered() {
  try {
    return localStorage.getItem(KEPT) !== null;
  } catch {
    return true; // private browsing: it would come at each visit
  }
}

function remember() {
  try {
    localStorage.setItem(KEPT, "seen");
  } catch {
    /* private browsing */
  }
}

/** Once the first maps are there. */
function whenDrawn(open) {
  const drawn = () => document.querySelector("#attention-view .vx-mount[data-repaint-ms]") && document.querySelector(STRENGTH);
  const waiting = window.setInterval(() => {
    if (!drawn()) return;
    clearInterval(waiting);
    open();
  }, 200);
}
