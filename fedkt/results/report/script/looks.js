// How strategies are told apart, scales, and what charts share.

// Each strategy has a hue and a dash of its own; LOOKS and BOUNDS come from fedkt/drawing.py.
function lookOf(places, label) {
  const [hue, dash] = LOOKS[(places.get(label) ?? 0) % LOOKS.length];
  return { colour: `var(--c${hue})`, dash: dash.join(" ") || null };
}
const contenders = new Map(D.methods.filter((_, i) => !isBound(i) || D.methods.length < 2).map((m, i) => [m.label, i]));
function look(method) {
  const { label, strategy } = D.methods[method];
  return contenders.has(label) ? lookOf(contenders, label) : { colour: "var(--bound)", dash: BOUNDS[strategy].join(" ") };
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * (1 - 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
  return found;
}
const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
const isNarrow = (W) => W < 620;

function horizontals(svg, low, high, Y, left, right, text) {
  ticks(low, high, 6).forEach((v, i, all) => {
    make(svg, "line", { class: "grid", x1: left, x2: right, y1: Y(v), y2: Y(v) });
    make(svg, "text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, text(v, i === all.length - 1));
  });
}
const inPercent = (v, last) => (100 * v).toFixed(0) + (last ? " %" : "");
const atAxis = SHARE ? inPercent : (v) => String(v);
// Where an axis of the leading figure begins and ends, for these values.
function endsOf(values) {
  const { lowest, highest } = D.figure, down = SHARE ? 10 : 10 / highest, up = SHARE ? 20 : 20 / highest;
  return [Math.max(lowest, Math.floor(down * Math.min(...values)) / down), Math.min(highest, Math.ceil(up * Math.max(...values)) / up)];
}

function apart(items, gap, low, high) {
  // Labels keep their order and move as little as their neighbours allow.
  items.sort((a, b) => a.y - b.y);
  for (let pass = 0; pass < 200; pass++) {
    let moved = false;
    for (let i = 1; i < items.length; i++) {
      const over = gap - (items[i].y - items[i - 1].y);
      if (over > 0.01) { items[i].y += over / 2; items[i - 1].y -= over / 2; moved = true; }
    }
    items.forEach((item) => { item.y = Math.max(low, Math.min(high, item.y)); });
    if (!moved) break;
  }
}

// A piece of a line with its hue and dash, as it is drawn in a chart.
function key(parent, { colour, dash }) {
  const svg = make(parent, "svg", { viewBox: "0 0 30 8", class: "key", "aria-hidden": true });
  make(svg, "line", { "stroke-width": 2.4, x1: 0, x2: 30, y1: 4, y2: 4, stroke: colour, "stroke-dasharray": dash });
}

const rgb = (name) => {
  const probe = make(document.body, "i", { style: `color:var(${name})` });
  const found = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return found;
};
