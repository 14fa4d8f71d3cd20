// A map of many points that keeps up with the pointer: while it is dragged, what is drawn is shifted as a picture, and
// plotly, which would draw WebGL anew with each move, hears of a move when the pointer rests or is let go.

const REST_MS = 120;
const LAYERS = ".gl-container, .cartesianlayer, .annotation, .vx-embedoverlay";

/** stage: around plot. isSlow(): whether plotly takes its time for each move. */
export function shiftWhileDragged(life, stage, plot, isSlow) {
  let heard = null; // {x, y}: where plotly believes the pointer to be, while it drags the map
  let now = null; // the last event of the drag
  let passing = false;
  let resting = 0;

  const shift = (x, y) => {
    for (const layer of stage.querySelectorAll(LAYERS)) layer.style.transform = x || y ? `translate(${x}px, ${y}px)` : "";
  };
  const tell = () => {
    clearTimeout(resting);
    if (now) {
      const { target, clientX, clientY } = now;
      passing = true;
      target.dispatchEvent(new window.MouseEvent("mousemove", { bubbles: true, cancelable: true, clientX, clientY, buttons: 1 }));
      passing = false;
      heard = { x: clientX, y: clientY };
      now = null;
    }
    shift(0, 0);
  };
  const follow = life.perFrame(() => now && shift(now.clientX - heard.x, now.clientY - heard.y));

  life.listen(window, ["mousedown"], (event) => {
    const pans = event.button === 0 && event.target instanceof Element && event.target.matches(".nsewdrag") && plot.contains(event.target);
    heard = pans && isSlow() && plot._fullLayout.dragmode === "pan" ? { x: event.clientX, y: event.clientY } : null;
  }, true);
  life.listen(window, ["mousemove"], (event) => {
    if (!heard || passing) return;
    if (event.buttons === 0) return finish();
    event.stopImmediatePropagation();
    now = event;
    follow();
    clearTimeout(resting);
    resting = setTimeout(tell, REST_MS);
  }, true);
  const finish = () => {
    if (heard) tell();
    heard = null;
  };
  life.listen(window, ["mouseup"], finish, true);
  life.atEnd(() => clearTimeout(resting));
}
