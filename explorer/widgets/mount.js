// Mounts a view of explorer/web in a notebook. Enters: the model's payload, scene, moments, settings, error, busy.
// Leaves: settings, and the view's events. The view's own module stands before this text, and FACTORY is its function.

const vxStart = FACTORY;

/** plotly.js, once for a page: the kernel hands it over compressed, so that nothing is fetched from elsewhere. */
async function vxPlotly(model) {
  while (!globalThis.vxPlotlyLibrary) {
    const mine = !globalThis.vxPlotlyAsked;
    globalThis.vxPlotlyAsked ??= vxAskPlotly(model).then((found) => {
      globalThis.vxPlotlyLibrary = found;
    });
    try {
      await globalThis.vxPlotlyAsked;
    } catch (error) {
      if (mine) throw error; // another widget asks its own kernel
    } finally {
      if (mine) delete globalThis.vxPlotlyAsked;
    }
  }
  return globalThis.vxPlotlyLibrary;
}

async function vxAskPlotly(model) {
  const packed = await new Promise((done, failed) => {
    const answer = (message, buffers) => {
      if (message.type !== "plotly") return;
      if (message.problem) failed(new Error(message.problem));
      else done(buffers[0]);
    };
    model.on("msg:custom", answer);
    model.on("destroy", () => failed(new Error("the widget was closed")));
    model.send({ type: "plotly" });
  });
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const source = await new Response(unpacked).text();
  // As a CommonJS module: pages with RequireJS would take it for one of theirs, and those with a plotly keep it.
  const wrapped = `(() => { const module = { exports: {} }, exports = module.exports, define = undefined;
    ${source}
    ;globalThis.vxPlotlyModule = module.exports; })();`;
  const address = URL.createObjectURL(new Blob([wrapped], { type: "text/javascript" }));
  try {
    await new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = done;
      script.onerror = () => failed(new Error("this page does not allow it"));
      document.head.append(script);
    });
  } finally {
    URL.revokeObjectURL(address);
  }
  return globalThis.vxPlotlyModule;
}

/** What a page of its own is made of: the kernel hands it over when it is wanted. */
function vxAskPage(model) {
  return new Promise((done, failed) => {
    model.on("msg:custom", (message) => message.type === "page" && done(message));
    model.on("destroy", () => failed(new Error("the widget was closed")));
    model.send({ type: "page" });
  });
}

/** What was handed over in parts, so that little is sent while a run goes on, as the one payload of the view. */
function vxPayload(model) {
  const payload = model.get("payload");
  const slots = model.get("slots");
  if (!payload) return null;
  const whole = { ...payload, ...model.get("scene") };
  if (!slots) return whole;
  return { ...whole, moments: Array.from({ length: slots }, (_, i) => model.get(`moment_${i}`)).filter(Boolean) };
}

/** The picture that stands for the widget where none runs, in the output after it, whenever that comes. */
function vxHide(still) {
  if (!still || document.getElementById(still)) return;
  const rule = document.createElement("style");
  rule.id = still;
  rule.textContent = `.jp-OutputArea-child:has(.${still}), .${still} { display: none !important; }`;
  document.head.append(rule);
}

function render({ model, el }) {
  const problem = document.createElement("p");
  problem.className = "vx-problem";
  problem.setAttribute("role", "alert");
  const shell = document.createElement("div");
  shell.className = "vx";
  shell.append(problem);
  const root = document.createElement("div");
  root.className = "vx-mount";
  el.classList.add("vx-widget");
  el.append(shell, root);

  let told = JSON.stringify(model.get("settings"));
  const view = vxStart(root, {
    onState: ({ playing, index, step, query, ...settings }) => {
      // What belongs to this very moment is not for a page that is opened later.
      told = JSON.stringify(settings);
      model.set("settings", settings);
      model.save_changes();
    },
    onEvent: (name, data) => model.send({ type: "event", name, data }),
    plotly: () => vxPlotly(model),
    page: { load: () => vxAskPage(model) },
  });
  const adopt = () => {
    const settings = model.get("settings");
    if (JSON.stringify(settings) === told) return;
    told = JSON.stringify(settings);
    view.set(settings);
  };
  let asked = false; // several parts that arrive together are drawn once
  const draw = () => {
    if (asked) return;
    asked = true;
    queueMicrotask(() => {
      asked = false;
      view.update(vxPayload(model));
    });
  };
  const tell = () => {
    const error = model.get("error");
    problem.hidden = !error;
    if (problem.textContent !== (error ?? "")) problem.textContent = error ?? "";
    root.classList.toggle("vx-busy", model.get("busy"));
    root.setAttribute("aria-busy", String(model.get("busy")));
  };
  const parts = ["payload", "scene", ...Array.from({ length: model.get("slots") }, (_, i) => `moment_${i}`)];
  const heard = [["settings", adopt], ["error", tell], ["busy", tell], ...parts.map((name) => [name, draw])];
  for (const [name, react] of heard) model.on(`change:${name}`, react);
  tell();
  if (told !== "{}") view.set(JSON.parse(told));
  draw();
  vxHide(model.get("still"));
  root.view = view;
  return () => {
    for (const [name, react] of heard) model.off(`change:${name}`, react);
    view.destroy();
  };
}

export default { render };
