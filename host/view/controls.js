// Everything that can be chosen, by pointer and by keyboard.

const LEAST_SPAN = 4;

function setRange(from, to) {
  const { cycles } = image(), span = Math.min(cycles, Math.max(LEAST_SPAN, to - from));
  view.from = Math.min(Math.max(0, from), cycles - span);
  view.to = view.from + span;
  const scroll = byId("scroll");
  scroll.max = cycles - span;
  scroll.value = view.from;
  scroll.disabled = span >= cycles;
  showTimeline();
}

// The middle, or the cursor, stays where it is.
function zoom(factor) {
  const { starts } = image(), seen = view.bin !== null && starts[view.bin] >= view.from && starts[view.bin] <= view.to;
  const centre = seen ? starts[view.bin] : (view.from + view.to) / 2;
  setRange(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
}

function showAll() {
  byId("layer").value = view.layer;
  showTiles();
  showCycles();
  showNetwork();
  showNumbers();
}

function chooseLayer(layer, focus = null) {
  view.layer = layer;
  showAll();
  const [first, last] = binsOf(layer);
  setRange(image().starts[first], image().starts[last]);
  if (focus !== null) document.querySelector(focus).focus();
}

function chooseImage(number) {
  view.image = number;
  view.bin = null;
  byId("readout").textContent = "";
  byId("layer").replaceChildren(element("option", { value: -1 }, "all layers"), ...RUN.layers.flatMap((layer, place) =>
    binsOf(place)[0] < 0 ? [] : [element("option", { value: place }, layer.name)]));
  chooseLayer(view.layer >= 0 && binsOf(view.layer)[0] < 0 ? -1 : view.layer);
}

function moveCursor(bins, pes) {
  const count = image().series.cycles.length;
  view.bin = view.bin === null ? binAt(view.from) : Math.min(count - 1, Math.max(0, view.bin + bins));
  view.pe = Math.min(RUN.pes - 1, Math.max(0, view.pe + pes));
  const { starts } = image(), span = view.to - view.from;
  byId("readout").textContent = described(view.bin, view.pe, "; ");
  if (starts[view.bin] < view.from) setRange(starts[view.bin], starts[view.bin] + span);
  else if (starts[view.bin + 1] > view.to) setRange(starts[view.bin + 1] - span, starts[view.bin + 1]);
  else showHeat();
}

function onKey(event) {
  const step = event.shiftKey ? 10 : 1, page = view.to - view.from;
  const actions = {
    ArrowLeft: () => moveCursor(-step, 0), ArrowRight: () => moveCursor(step, 0),
    ArrowUp: () => moveCursor(0, -1), ArrowDown: () => moveCursor(0, 1),
    "+": () => zoom(1 / 2), "=": () => zoom(1 / 2), "-": () => zoom(2),
    PageUp: () => setRange(view.from - page, view.from), PageDown: () => setRange(view.to, view.to + page),
    Home: () => setRange(0, image().cycles),
  };
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
}

function listenToPointer() {
  const heat = byId("heat"), canvas = heat.querySelector("canvas");
  const tip = element("div", { id: "tip", hidden: "" });
  heat.append(tip);
  let began = null;
  const inside = x => Math.min(LEFT + plotWidth() - .01, Math.max(LEFT, x));
  canvas.addEventListener("pointerdown", event => {
    began = event.offsetX;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", event => {
    const pe = Math.floor(event.offsetY / rowHeight());
    tip.hidden = event.offsetX < LEFT || pe < 0 || pe >= RUN.pes;
    if (!tip.hidden) {
      tip.textContent = described(binAt(cycleAt(inside(event.offsetX))), pe, "\n");
      const beyond = event.offsetX + tip.offsetWidth + 20 > heat.clientWidth;
      tip.style.left = `${Math.max(0, event.offsetX + (beyond ? -tip.offsetWidth - 12 : 14))}px`;
      tip.style.top = `${event.offsetY + 14}px`;
    }
    if (began !== null) {
      showHeat();
      const context = canvas.getContext("2d"), x = inside(event.offsetX);
      context.fillStyle = colours.ink;
      context.globalAlpha = .18;
      context.fillRect(Math.min(inside(began), x), 0, Math.abs(x - inside(began)), rowHeight() * RUN.pes);
      context.globalAlpha = 1;
    }
  });
  canvas.addEventListener("pointerup", event => {
    const [low, high] = [inside(began), inside(event.offsetX)].sort((one, other) => one - other);
    began = null;
    if (high - low > 4) { setRange(cycleAt(low), cycleAt(high)); return; }
    const pe = Math.floor(event.offsetY / rowHeight());
    if (event.offsetX < LEFT || pe >= RUN.pes) return;
    view.bin = binAt(cycleAt(inside(event.offsetX)));
    view.pe = pe;
    moveCursor(0, 0);
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", () => setRange(0, image().cycles));
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey && Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
    event.preventDefault();
    const span = view.to - view.from, share = event.deltaX / plotWidth();
    if (event.ctrlKey) zoom(event.deltaY > 0 ? 1.25 : .8); else setRange(view.from + share * span, view.to + share * span);
  }, { passive: false });
  canvas.addEventListener("keydown", onKey);
}

function start() {
  byId("image").append(...RUN.images.map((one, place) => element("option", { value: place },
    `${one.number}: answer ${one.answer}${one.label === null || one.label === one.answer ? "" : `, label ${one.label}`}`)));
  byId("image").addEventListener("change", event => chooseImage(Number(event.target.value)));
  byId("layer").addEventListener("change", event => chooseLayer(Number(event.target.value)));
  byId("mode").addEventListener("change", event => { view.mode = event.target.value; showHeat(); });
  byId("in").addEventListener("click", () => zoom(1 / 2));
  byId("out").addEventListener("click", () => zoom(2));
  byId("whole").addEventListener("click", () => setRange(0, image().cycles));
  byId("scroll").addEventListener("input", event => {
    const from = Number(event.target.value);
    setRange(from, from + view.to - view.from);
  });
  for (const id of ["shares", "levels", "scan"]) byId(`show-${id}`).addEventListener("change", showTimeline);
  listenToPointer();
  window.addEventListener("resize", () => { showNetwork(); showTimeline(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); showTimeline(); });
  readColours();
  chooseImage(0);
  document.body.dataset.ready = "true";
}

start();
