// The recording, and sums of it over a range of bins.

const RUN = JSON.parse(document.getElementById("run").textContent);

const STATES = [
  ["busy", "multiplies", "one useful multiplication in each such cycle"],
  ["stalled", "stalled on a queue", "nothing to do, and the scan is stopped because some PE's queue is full"],
  ["walking", "walks without multiplying", "skips, and the way from a slice to its first weight"],
  ["held", "held by a drain", "results are drained, or a layer's tables loaded"],
  ["waiting", "idle, the scan goes on", "no broadcast has brought this PE work"],
  ["ended", "idle, the scan is over", "waits for the slowest PE, or for the next layer to begin"],
];

// What is looked at: an image, a layer (-1: all), the cycles that are shown, the bin and PE under the cursor.
const view = { image: 0, layer: -1, from: 0, to: 1, mode: "states", bin: null, pe: 0 };

const byId = id => document.getElementById(id);
const whole = value => Math.round(value).toLocaleString("en");
const percent = share => (100 * share).toFixed(1) + " %";
const cut = (text, length) => text.length > length ? text.slice(0, length - 1) + "\u2026" : text;

// What is not printable in a name is shown as its code, as elsewhere in this project's reports.
const printable = text => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, one => "\\u" + one.codePointAt(0).toString(16).padStart(4, "0"));

function element(name, attributes = {}, children = []) {
  const made = document.createElement(name);
  return filled(made, attributes, children);
}

function drawn(name, attributes = {}, children = []) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[children].flat());
  return made;
}

for (const layer of RUN.layers) layer.name = printable(layer.name);
for (const image of RUN.images) {
  image.starts = [0];
  for (const cycles of image.series.cycles) image.starts.push(image.starts.at(-1) + cycles);
  image.cycles = image.starts.at(-1);
  image.layerOf = image.series.passes.map(pass => RUN.passes[pass]);
}

const image = () => RUN.images[view.image];

// First bin of a layer, and the one after its last; of the whole inference for -1.
function binsOf(layer) {
  const layers = image().layerOf;
  return layer < 0 ? [0, layers.length] : [layers.indexOf(layer), layers.lastIndexOf(layer) + 1];
}

// The bin in which a cycle lies.
function binAt(cycle) {
  const starts = image().starts;
  let low = 0, high = starts.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= cycle) low = middle; else high = middle - 1;
  }
  return low;
}

// Cycles of all PEs in each state, in the order of STATES, over some bins; of one PE if it is given.
function spentIn(first, last, pe = null) {
  return STATES.map(([state]) => {
    const cells = image().spent[state];
    let sum = 0;
    for (let bin = first; bin < last; bin++) {
      if (pe !== null) sum += cells[bin * RUN.pes + pe];
      else for (let one = 0; one < RUN.pes; one++) sum += cells[bin * RUN.pes + one];
    }
    return sum;
  });
}

const cyclesIn = (first, last) => image().starts[last] - image().starts[first];

function seriesIn(name, first, last) {
  return image().series[name].slice(first, last).reduce((sum, one) => sum + one, 0);
}
