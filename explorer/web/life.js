// The life that every view leads: payloads come and the latest wins, settings change and are told, and in the end
// nothing of it stays behind.

import { createShell } from "./elements.js";

const UNTOUCHED = "The student is still the untouched copy of the teacher: train one or choose one to see a difference.";

/** The frame of a view, and what happens to it.
 *
 * kind, empty: what the frame is and says while there is nothing in it. what: how a payload is called.
 * isEmpty(payload): there is nothing to draw, only a message. prepare(payload): what takes its time. read(payload,
 * prepared): the data; both throw what a person can mend. adopt(data, isLatest): shows them. forget(): lets all go.
 * say(data): what is told above the view. state, refresh, snapshot: settings, what paints them, what the host hears (the
 * settings as they are, if nothing else is said).
 */
export function createLife(root, options, view) {
  const shell = createShell(root, view.kind, view.empty);
  const stats = { lastRepaintMs: 0, repaints: 0 };
  const ends = [];
  const snapshot = view.snapshot ?? (() => ({ ...view.state }));
  let turn = 0;

  /** Shows a payload, keeping the settings where they make sense. Resolves when painted. */
  async function update(payload) {
    const mine = ++turn;
    const isLatest = () => mine === turn;
    if (view.isEmpty(payload)) return forget(payload?.message);
    let next;
    try {
      const prepared = view.prepare && (await view.prepare(payload));
      if (!isLatest()) return;
      next = view.read ? view.read(payload, prepared) : prepared;
    } catch (error) {
      if (isLatest()) forget(`This ${view.what} could not be read: ${error.message}.`);
      return;
    }
    shell.say(...(view.say?.(next) ?? [next.message, next.untouched && UNTOUCHED]));
    shell.show(true);
    await view.adopt(next, isLatest);
  }

  function forget(message) {
    view.forget();
    shell.show(false);
    shell.say(message);
  }

  const tell = () => options.onState?.(snapshot());

  /** Somebody changed settings by hand. */
  function change(partial) {
    Object.assign(view.state, partial);
    view.refresh();
    tell();
  }

  function timed(work) {
    const started = performance.now();
    work();
    stats.lastRepaintMs = performance.now() - started;
    stats.repaints += 1;
    root.dataset.repaintMs = stats.lastRepaintMs.toFixed(2);
  }

  /** Runs `work` once in the next frame, however often it is asked for. */
  function perFrame(work) {
    let handle = 0;
    const run = () => {
      handle = 0;
      work();
    };
    ends.push(() => cancelAnimationFrame(handle));
    return () => {
      handle ||= requestAnimationFrame(run);
    };
  }

  function observe(observer) {
    ends.push(() => observer.disconnect());
    return observer;
  }

  function listen(target, names, listener, capture = false) {
    for (const name of names) target.addEventListener(name, listener, capture);
    ends.push(() => names.forEach((name) => target.removeEventListener(name, listener, capture)));
  }

  function destroy() {
    turn += 1;
    for (const end of ends) end();
    shell.destroy();
    delete root.dataset.repaintMs;
  }

  /** What every view offers, under the names that hosts, `set` and links use. */
  const face = { update, state: snapshot, stats, destroy };
  return { kind: view.kind, options, shell, face, tell, change, timed, perFrame, observe, listen, atEnd: (work) => ends.push(work) };
}
