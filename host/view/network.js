// The network, layer by layer.

const LEAST_PITCH = 140, MOST_PITCH = 300, MARGIN = 40, TALL = 130, BAR = 14;

let pitch = LEAST_PITCH;

function showNetwork() {
  const counts = [...RUN.layers.map(layer => layer.inputs), RUN.layers.at(-1).outputs];
  const most = Math.log2(Math.max(...counts) + 1);
  const tall = counts.map(count => Math.max(12, TALL * Math.log2(count + 1) / most));
  const room = (byId("network").clientWidth - 2 * MARGIN) / RUN.layers.length;
  pitch = Math.max(LEAST_PITCH, Math.min(MOST_PITCH, room));
  const width = pitch * RUN.layers.length + 2 * MARGIN, height = TALL + 78, middle = 30 + TALL / 2;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "network" });
  RUN.layers.forEach((layer, number) => svg.append(layerShape(layer, number, tall, middle)));
  counts.forEach((count, number) => {
    const x = MARGIN + pitch * number, top = middle - tall[number] / 2;
    const active = number < RUN.layers.length ? image().active[number] : null;
    const title = active === null ? `${whole(count)} outputs` : `${whole(active)} of ${whole(count)} are not zero`;
    const filledTo = active === null ? 0 : tall[number] * active / count;
    svg.append(drawn("g", {}, [
      drawn("rect", { class: "acts", x: x - BAR / 2, y: top, width: BAR, height: tall[number], rx: 2 }),
      drawn("rect", { class: "active", x: x - BAR / 2, y: top + tall[number] - filledTo, width: BAR, height: filledTo, rx: 2 }),
      drawn("title", {}, title),
      words(x, 12, whole(count)),
      ...(active === null ? [] : [words(x, 25, `${whole(100 * active / count)} % active`, "quiet")]),
    ]));
  });
  byId("network").replaceChildren(svg);
}

function words(x, y, text, kind = "", anchor = "middle") {
  return drawn("text", { x, y, class: kind, "text-anchor": anchor }, text);
}

// A layer between its inputs and outputs, with more lines the more of its weights are left.
function layerShape(layer, number, tall, middle) {
  const left = MARGIN + pitch * number + BAR / 2 + 3, right = left + pitch - BAR - 6;
  const [before, after] = [tall[number] / 2, tall[number + 1] / 2];
  const density = layer.weights_kept / layer.weights_total;
  const [first, last] = binsOf(number);
  const cycles = first < 0 ? 0 : cyclesIn(first, last);
  const label = `${layer.name}: ${whole(layer.weights_kept)} of ${whole(layer.weights_total)} weights, ${whole(cycles)} cycles`;
  const shape = drawn("g", { class: "layer", tabindex: 0, role: "button", "aria-label": label,
    "aria-pressed": view.layer === number, "data-layer": number }, [
    drawn("title", {}, label),
    drawn("path", { d: `M${left} ${middle - before} L${right} ${middle - after} L${right} ${middle + after} L${left} ${middle + before} Z` }),
  ]);
  let noise = 12345 + number;
  const random = () => (noise = (noise * 1103515245 + 12345) % 2147483648) / 2147483648;
  for (let line = Math.round(5 + 60 * density); line > 0; line--) {
    shape.append(drawn("line", { x1: left, x2: right, y1: middle + before * (1.9 * random() - .95),
      y2: middle + after * (1.9 * random() - .95) }));
  }
  const x = (left + right) / 2, below = 30 + TALL + 14;
  shape.append(words(x, below, cut(layer.name, Math.floor(pitch / 8))), words(x, below + 15, `${percent(density)} kept`, "quiet"),
    words(x, below + 30, `${whole(cycles)} cycles`, "quiet"));
  const choose = () => chooseLayer(view.layer === number ? -1 : number, `#network [data-layer="${number}"]`);
  shape.addEventListener("click", choose);
  shape.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
  });
  return shape;
}
