// What happens over time: PEs as a heat map, and strips below it on the same axis.

const LEFT = 58, RIGHT = 4;
const colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const read = name => style.getPropertyValue(name).trim();
  const names = { busy: "--s0", stalled: "--s1", walking: "--s3", held: "--held", waiting: "--waiting", ended: "--ended",
    paper: "--paper", ink: "--ink", quiet: "--quiet", rule: "--rule", level: "--s2" };
  for (const [name, property] of Object.entries(names)) colours[name] = read(property);
}

// From "#rrggbb" to numbers.
const rgb = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));

function rowHeight() {
  return Math.max(2, Math.min(18, Math.floor(340 / RUN.pes)));
}

// A canvas as wide as its place, in CSS pixels; its context draws in these.
function prepared(id, height) {
  const canvas = byId(id).querySelector("canvas");
  const width = byId(id).clientWidth, ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  return [context, width, height];
}

const plotWidth = () => Math.max(1, byId("heat").clientWidth - LEFT - RIGHT);
const xOf = cycle => LEFT + (cycle - view.from) / (view.to - view.from) * plotWidth();
const cycleAt = x => view.from + (x - LEFT) / plotWidth() * (view.to - view.from);

// For each of `count` columns: its bins and their shares.
function columns(count) {
  const { starts } = image(), span = (view.to - view.from) / count, found = [];
  let bin = binAt(view.from);
  for (let column = 0; column < count; column++) {
    const begin = view.from + column * span, end = begin + span, parts = [];
    while (bin < starts.length - 2 && starts[bin + 1] <= begin) bin++;
    for (let one = bin; one < starts.length - 1 && starts[one] < end; one++) {
      const share = (Math.min(end, starts[one + 1]) - Math.max(begin, starts[one])) / span;
      if (share > 0) parts.push([one, share]);
    }
    found.push(parts);
  }
  return found;
}

function mixer() {
  const states = STATES.map(([state]) => [image().spent[state], rgb(colours[state])]);
  const { cycles } = image().series, paper = rgb(colours.paper), full = rgb(colours.stalled), level = rgb(colours.level);
  const between = (low, high, share) => low.map((one, place) => one + (high[place] - one) * share);
  if (view.mode === "level") return (bin, cell) => {
    const mean = image().level_sum[cell] / cycles[bin];
    return mean >= RUN.queue_limit ? full : between(paper, level, .06 + .94 * Math.min(1, mean / RUN.queue_limit));
  };
  if (view.mode !== "states") {
    const cells = image().spent[view.mode], top = rgb(colours[view.mode]);
    return (bin, cell) => between(paper, top, cells[cell] / cycles[bin]);
  }
  return (bin, cell) => {
    const mixed = [0, 0, 0];
    for (const [cells, colour] of states) {
      const share = cells[cell] / cycles[bin];
      if (share) for (let place = 0; place < 3; place++) mixed[place] += colour[place] * share;
    }
    return mixed;
  };
}

function showHeat() {
  const row = rowHeight(), [context, width, height] = prepared("heat", row * RUN.pes + 22);
  const count = Math.round(plotWidth() * (window.devicePixelRatio || 1)), mix = mixer();
  const pixels = new ImageData(count, RUN.pes), made = new Map();
  columns(count).forEach((parts, column) => {
    for (let pe = 0; pe < RUN.pes; pe++) {
      const mixed = [0, 0, 0];
      for (const [bin, share] of parts) {
        const cell = bin * RUN.pes + pe;
        if (!made.has(cell)) made.set(cell, mix(bin, cell));
        made.get(cell).forEach((one, place) => { mixed[place] += one * share; });
      }
      pixels.data.set([...mixed.map(Math.round), 255], 4 * (pe * count + column));
    }
  });
  const flat = document.createElement("canvas");
  flat.width = count;
  flat.height = RUN.pes;
  flat.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(flat, LEFT, 0, plotWidth(), row * RUN.pes);
  context.fillStyle = colours.paper;
  if (row >= 5) for (let pe = 1; pe < RUN.pes; pe++) context.fillRect(LEFT, pe * row - .5, plotWidth(), 1);
  context.fillStyle = colours.quiet;
  context.textAlign = "right";
  const every = 2 ** Math.ceil(Math.log2(13 / row));
  for (let pe = 0; pe < RUN.pes; pe += every) context.fillText(`PE ${pe}`, LEFT - 7, pe * row + Math.max(row, 14) / 2);
  layerLines(context, row * RUN.pes);
  drawAxis(context, row * RUN.pes);
  drawCursor(context, row);
}

function layerLines(context, height) {
  context.fillStyle = colours.ink;
  const { starts, layerOf } = image();
  for (let bin = 1; bin < layerOf.length; bin++) {
    const x = xOf(starts[bin]);
    if (layerOf[bin] !== layerOf[bin - 1] && x > LEFT && x < LEFT + plotWidth()) context.fillRect(x - .5, 0, 1, height);
  }
}

function drawAxis(context, y) {
  const wanted = (view.to - view.from) / (plotWidth() / 90), power = 10 ** Math.floor(Math.log10(wanted));
  const step = Math.max(1, [1, 2, 5, 10].map(one => one * power).find(one => one >= wanted));
  context.textAlign = "center";
  for (let cycle = Math.ceil(view.from / step) * step; cycle <= view.to; cycle += step) {
    const x = xOf(cycle), text = whole(cycle), half = context.measureText(text).width / 2;
    context.fillStyle = colours.quiet;
    context.fillRect(x - .5, y, 1, 4);
    context.fillText(text, Math.min(x, LEFT + plotWidth() + RIGHT - half), y + 13);
  }
  context.textAlign = "right";
  context.fillText("cycle", LEFT - 7, y + 13);
}

function drawCursor(context, row) {
  if (view.bin === null) return;
  const { starts } = image(), x = xOf(starts[view.bin]), right = xOf(starts[view.bin + 1]);
  context.strokeStyle = colours.ink;
  context.lineWidth = 2;
  context.strokeRect(Math.max(LEFT, x) - 1, view.pe * row - 1, Math.max(3, right - x) + 2, Math.max(3, row) + 2);
}

function showBands() {
  const [context] = prepared("bands", 26), { starts, layerOf } = image();
  context.textAlign = "center";
  for (let first = 0, bin = 1; bin <= layerOf.length; bin++) {
    if (bin < layerOf.length && layerOf[bin] === layerOf[first]) continue;
    const begin = Math.max(LEFT, xOf(starts[first])), end = Math.min(LEFT + plotWidth(), xOf(starts[bin]));
    if (end > begin) {
      context.fillStyle = layerOf[first] === view.layer ? colours.busy : colours.rule;
      context.fillRect(begin, 0, Math.max(1, end - begin - 2), 20);
      const { name } = RUN.layers[layerOf[first]], room = Math.floor((end - begin - 8) / 7);
      context.fillStyle = layerOf[first] === view.layer ? colours.paper : colours.ink;
      if (room >= 3) context.fillText(cut(name, room), (begin + end) / 2, 10);
    }
    first = bin;
  }
}

// A strip's title and scale left of it, and a frame.
function frame(context, height, title, top) {
  context.fillStyle = colours.quiet;
  context.textAlign = "right";
  context.fillText(title, LEFT - 7, height / 2);
  if (top !== "") context.fillText(top, LEFT - 7, 9);
  context.fillText("0", LEFT - 7, height - 8);
  context.strokeStyle = colours.rule;
  context.lineWidth = 1;
  context.strokeRect(LEFT + .5, .5, plotWidth() - 1, height - 1);
}

const stripWidth = () => Math.max(1, Math.round(plotWidth()));

function showShares() {
  const [context, , height] = prepared("shares", 90), inner = height - 10;
  const totals = STATES.map(([state]) => {
    const cells = image().spent[state], sums = [];
    for (let bin = 0; bin < image().series.cycles.length; bin++) {
      let sum = 0;
      for (let pe = 0; pe < RUN.pes; pe++) sum += cells[bin * RUN.pes + pe];
      sums.push(sum / RUN.pes / image().series.cycles[bin]);
    }
    return sums;
  });
  columns(stripWidth()).forEach((parts, column) => {
    let y = inner;
    STATES.forEach(([state], place) => {
      const tall = inner * parts.reduce((sum, [bin, share]) => sum + totals[place][bin] * share, 0);
      context.fillStyle = colours[state];
      context.fillRect(LEFT + column, y - tall, 1, tall);
      y -= tall;
    });
  });
  frame(context, inner, "all PEs", "100 %");
}

function showLevels() {
  const [context, , height] = prepared("levels", 76), inner = height - 10, top = RUN.queue_depth;
  const means = [], tops = [];
  for (let bin = 0; bin < image().series.cycles.length; bin++) {
    let sum = 0, most = 0;
    for (let cell = bin * RUN.pes; cell < (bin + 1) * RUN.pes; cell++) {
      sum += image().level_sum[cell];
      most = Math.max(most, image().level_max[cell]);
    }
    means.push(sum / RUN.pes / image().series.cycles[bin]);
    tops.push(most);
  }
  columns(stripWidth()).forEach((parts, column) => {
    const mean = parts.reduce((sum, [bin, share]) => sum + means[bin] * share, 0);
    const most = Math.max(0, ...parts.map(([bin]) => tops[bin]));
    context.fillStyle = colours.waiting;
    context.fillRect(LEFT + column, inner * (1 - most / top), 1, inner * most / top);
    context.fillStyle = colours.level;
    context.fillRect(LEFT + column, inner * (1 - mean / top), 1, inner * mean / top);
  });
  context.fillStyle = colours.stalled;
  const limit = inner * (1 - RUN.queue_limit / top);
  for (let x = LEFT; x < LEFT + plotWidth(); x += 8) context.fillRect(x, limit - .5, 4, 1);
  frame(context, inner, "queues", whole(top));
}

function showScan() {
  const [context, , height] = prepared("scan", 62), inner = height - 10, { series } = image();
  columns(stripWidth()).forEach((parts, column) => {
    const share = name => parts.reduce((sum, [bin, part]) => sum + series[name][bin] / series.cycles[bin] * part, 0);
    let y = inner;
    for (const [name, colour] of [["broadcasts", "busy"], ["stalls", "stalled"]]) {
      const tall = inner * Math.min(1, share(name));
      context.fillStyle = colours[colour];
      context.fillRect(LEFT + column, y - tall, 1, tall);
      y -= tall;
    }
  });
  frame(context, inner, "scan", "1");
}

function showTimeline() {
  showBands();
  showHeat();
  for (const [id, show] of [["shares", showShares], ["levels", showLevels], ["scan", showScan]]) {
    byId(id).hidden = !byId(`show-${id}`).checked;
    if (!byId(id).hidden) show();
  }
}

// What is known of a bin and a PE.
function described(bin, pe, separator) {
  const { starts, series, layerOf, spent, level_sum: sums, level_max: tops } = image(), cell = bin * RUN.pes + pe;
  const cycles = series.cycles[bin], last = starts[bin + 1];
  const time = cycles === 1 ? `cycle ${whole(last)}` : `cycles ${whole(starts[bin] + 1)} to ${whole(last)}`;
  const states = STATES.filter(([state]) => spent[state][cell]).map(([state, label]) =>
    cycles === 1 ? label : `${label} ${whole(spent[state][cell])}`);
  const level = cycles === 1 ? tops[cell] : `${(sums[cell] / cycles).toFixed(1)} on average, at most ${tops[cell]}`;
  return [`${RUN.layers[layerOf[bin]].name}, ${time}, PE ${pe}`, states.join(", "), `slices in its queue: ${level}`,
    `broadcasts ${whole(series.broadcasts[bin])}${series.stalls[bin] ? `, scan stopped ${whole(series.stalls[bin])}` : ""}`,
  ].join(separator);
}
