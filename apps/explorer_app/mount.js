// Puts a view of explorer/web into a Gradio page. Enters: what Gradio hands to the script of an HTML element (props.value is
// the payload as JSON), and what the server says of the view. Leaves: the view's events, and the view itself as `.view`.

/** given: source of the view's module, name of its function (factory) and of its page (view), what the query parameter
 * `view` calls it (name), events for the server, where plotly.js is; template, registration and more for pages of its own;
 * recall() and remember(names): students of this browser. @param {{ element: HTMLElement, props: any, watch: Function, trigger: Function }} host @param {Record<string, any>} given */
export async function mount({ element, props, watch, trigger }, given) {
  const page = /** @type {any} */ (window);
  const root = /** @type {any} */ (element.querySelector(".vx-mount"));
  const address = URL.createObjectURL(new Blob([given.source], { type: "text/javascript" }));
  const module = await import(address).finally(() => URL.revokeObjectURL(address));
  const view = module[given.factory](root, {
    page: {
      view: given.view,
      template: given.template,
      modules: [given.source + given.registration, ...given.more],
      get style() {
        return document.getElementById("vx-style")?.textContent;
      },
    },
    answers: true,
    onEvent: (name, data) => given.events.includes(name) && trigger(name, data),
    plotly: () => (page.vxPlotly ??= loadPlotly(page, given.plotly)),
  });
  const query = Object.fromEntries(new URLSearchParams(location.search));
  if ((query.view ?? "attention") === given.name) view.set(query);
  const show = () => {
    const payload = props.value ? JSON.parse(props.value) : null;
    if (payload?.run) given.remember([...new Set([payload.run, ...given.recall()])].slice(0, 20));
    view.update(payload);
  };
  watch("value", show);
  show();
  root.view = view;
}

function loadPlotly(page, path) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `${page.gradio_config?.root ?? ""}${page.gradio_config?.api_prefix ?? ""}/file=${path}`;
    script.onload = () => done(page.Plotly);
    script.onerror = () => {
      delete page.vxPlotly;
      failed(new Error("plotly could not be loaded"));
    };
    document.head.append(script);
  });
}
