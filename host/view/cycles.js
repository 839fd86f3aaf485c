// Where the cycles went: tiles, a bar for each layer, and tables.

const WIDE = 1000, ROW = 24, NAMES = 140, FIGURES = 220;

function showCycles() {
  const rows = RUN.layers.map((layer, number) => [layer.name, ...binsOf(number)]).filter(([, first]) => first >= 0);
  const scale = (WIDE - NAMES - FIGURES) / image().cycles;
  const svg = drawn("svg", { viewBox: `0 0 ${WIDE} ${(rows.length + 1) * ROW + 8}`, role: "img",
    "aria-label": "cycles of each layer by what the PEs did in them" });
  svg.append(...stackedRow("all layers", 0, image().series.cycles.length, 0, scale));
  rows.forEach(([name, first, last], place) => svg.append(...stackedRow(name, first, last, ROW * (place + 1) + 8, scale)));
  byId("cycles").replaceChildren(svg, stateKeys());
}

function stackedRow(name, first, last, y, scale) {
  const spent = spentIn(first, last), cycles = cyclesIn(first, last), total = cycles * RUN.pes;
  let x = NAMES + image().starts[first] * scale;
  const begin = x, parts = [words(0, y + 15, cut(name, 19), "", "start")];
  STATES.forEach(([state, label], place) => {
    const width = spent[place] / RUN.pes * scale;
    parts.push(drawn("rect", { class: `fill state-${state}`, x, y, width, height: ROW - 6 },
      drawn("title", {}, `${name}: ${label} ${percent(spent[place] / total)}, ${whole(spent[place])} PE cycles`)));
    x += width;
  });
  parts.push(drawn("rect", { x: begin, y, width: x - begin, height: ROW - 6, fill: "none", stroke: "var(--rule)" }));
  parts.push(words(WIDE - FIGURES + 12, y + 15, `${whole(cycles)} cycles, ${percent(spent[0] / total)} busy`, "quiet", "start"));
  return parts;
}

function stateKeys() {
  const [first, last] = binsOf(view.layer);
  const spent = spentIn(first, last), total = cyclesIn(first, last) * RUN.pes;
  return element("div", { class: "keys" }, STATES.map(([state, label, meaning], place) =>
    element("div", { class: `state-${state}` }, [element("i"), element("span", {}, label),
      element("b", {}, percent(spent[place] / total)), element("small", {}, meaning)])));
}

function showTiles() {
  const [first, last] = binsOf(view.layer), cycles = cyclesIn(first, last), all = view.layer < 0;
  const spent = spentIn(first, last), total = cycles * RUN.pes;
  const layers = all ? RUN.layers : [RUN.layers[view.layer]];
  const sum = key => layers.reduce((before, layer) => before + layer[key], 0);
  const predicted = image().predicted_cycles, same = predicted === image().cycles;
  const right = image().label === null || image().label === image().answer;
  const levels = image().level_max.slice(first * RUN.pes, last * RUN.pes).reduce((top, one) => Math.max(top, one), 0);
  const figures = [
    ["answer", image().answer, image().label === null ? "" : right ? "as labelled" : `label ${image().label}`],
    [all ? "cycles" : "cycles of this layer", whole(cycles), all ? (same ? "as the cycle model predicts" : `predicted ${whole(predicted)}`)
      : `of ${whole(image().cycles)}`],
    ["PEs multiply", percent(spent[0] / total), `${whole(spent[0])} multiplications, ${(total / spent[0]).toFixed(2)} PE cycles each`],
    ["stalled on a queue", percent(spent[1] / total), `the scan stopped for ${whole(seriesIn("stalls", first, last))} cycles`],
    ["fullest queue", levels, `full at ${RUN.queue_limit}, holds ${RUN.queue_depth}`],
    ["weights kept", percent(sum("weights_kept") / sum("weights_total")),
      `${(sum("bits") / Math.max(1, sum("weights_kept"))).toFixed(1)} bits each with indices, lengths and biases`],
  ];
  byId("tiles").replaceChildren(...figures.map(([name, value, detail]) => element("div", { class: "tile" },
    [element("span", {}, name), element("b", {}, String(value)), element("span", {}, detail)])));
}

function table(rows, kind = "") {
  return element("div", { class: "wide" }, element("table", { class: kind }, rows.map((row, place) =>
    element("tr", {}, row.map(cell => element(place ? "td" : "th", {}, String(cell)))))));
}

function details(id, title, content) {
  const open = byId(id) ? byId(id).open : false;
  const made = element("details", { id }, [element("summary", {}, title), content]);
  made.open = open;
  return made;
}

function showNumbers() {
  const [first, last] = binsOf(view.layer);
  const titles = STATES.map(([, label]) => label);
  const ofPes = [["PE", ...titles]], ofLayers = [["layer", "cycles", "broadcasts", "scan stopped", "drain", ...titles]];
  for (let pe = 0; pe < RUN.pes; pe++) ofPes.push([pe, ...spentIn(first, last, pe).map(whole)]);
  RUN.layers.forEach((layer, number) => {
    const [begin, end] = binsOf(number);
    if (begin < 0) return;
    ofLayers.push([layer.name, whole(cyclesIn(begin, end)), ...["broadcasts", "stalls", "drains"].map(name =>
      whole(seriesIn(name, begin, end))), ...spentIn(begin, end).map(whole)]);
  });
  const counters = [["counter", "engine"], ...Object.entries(image().counters).map(([name, count]) => [name, whole(count)]),
    ["cycles, predicted", whole(image().predicted_cycles)]];
  byId("numbers").replaceChildren(
    details("of-layers", "PE cycles of each layer", table(ofLayers)),
    details("of-pes", `cycles of each PE${view.layer < 0 ? "" : " in " + RUN.layers[view.layer].name}`, table(ofPes)),
    details("of-counters", "performance counters of the inference", table(counters)));
}
