// What the page is about, elements of it, and words.

const D = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const state = { block: 0, metric: D.metric, x: "rounds", muted: new Set(), sort: {}, run: {}, matrix: {}, confusion: {}, paper: null };
const one = (id) => document.getElementById(id);

function make(parent, tag, attributes, text) {
  const svg = parent && (parent.namespaceURI === SVG || tag === "svg");
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "style") element.style.cssText = value; // a style attribute in text would need a policy's leave
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  if (text !== undefined && text !== null) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}

// Shows a section with a note, and returns its empty body; without a note it is hidden.
function fill(id, note) {
  const section = one(id);
  section.hidden = note === undefined;
  const body = section.querySelector("[data-body]");
  body.textContent = "";
  const line = section.querySelector("[data-note]");
  if (line) line.textContent = note || "";
  return body;
}

function segments(parent, label, options, chosen, choose) {
  const control = make(parent, "div", { class: "control" });
  make(control, "span", {}, label);
  const group = make(control, "div", { class: "seg", role: "group", "aria-label": label });
  for (const [value, text] of options) {
    const button = make(group, "button", { type: "button", "aria-pressed": value === chosen }, text);
    button.onclick = () => {
      for (const other of group.children) other.setAttribute("aria-pressed", other === button);
      choose(value);
    };
  }
  return control;
}

function select(parent, label, options, chosen, choose) {
  const control = make(parent, "label", { class: "control" });
  make(control, "span", {}, label);
  const list = make(control, "select");
  for (const [value, text] of options) make(list, "option", { value }, text);
  list.value = chosen;
  list.onchange = () => choose(list.value);
  return list;
}

const minus = (text) => text.replace("-", "−");
const missing = (value) => value === null || value === undefined;
const percent = (value, digits = 1) => (missing(value) ? "–" : (100 * value).toFixed(digits));
const signed = (value) => {
  if (missing(value)) return "–";
  const text = (100 * value).toFixed(1);
  return /^-?0\.0$/.test(text) ? "0.0" : minus((value > 0 ? "+" : "") + text);
};
// The leading figure: a share is told in per cent and its gains in points, anything else in its own unit.
const { title: FIGURE, share: SHARE, sign: SIGN } = D.figure, UNIT = SHARE ? " %" : "", GAIN = SHARE ? "points" : "gain", HEAD = FIGURE + (SHARE ? ", %" : "");
const level = (value, digits = 4) => (missing(value) ? "–" : SHARE ? percent(value) : String(+value.toPrecision(digits)));
const gained = (value) => (SHARE || missing(value) ? signed(value) : minus((value > 0 ? "+" : "") + String(+value.toPrecision(3))));
const around = (half) => (missing(half) ? "" : " ± " + level(half, 2));
const number = (value, digits) => (missing(value) ? "–" : value.toFixed(digits));
const significant = (value) => (missing(value) ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3));
const give = (half, digits = 1, scale = 100) => (missing(half) ? "" : " ± " + (scale * half).toFixed(digits));
const within = (low, high) => (missing(low) ? "" : around((high - low) / 2));
const shorten = (text, most) => (text.length > most ? text.slice(0, Math.max(1, most - 1)) + "…" : text);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
function size(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000 || unit === "GB") return (unit === "B" ? count.toFixed(0) : count.toFixed(1)) + " " + unit;
    count /= 1000;
  }
}
const blockName = (block) => [block.scenario, block.condition].filter(Boolean).join(" · ");
const indexOf = (label) => D.methods.findIndex((method) => method.label === label);
const isBound = (method) => ["local", "central"].includes(D.methods[method].strategy);
const ofBlock = (list) => (list || []).filter((r) => r.scenario === D.blocks[state.block].scenario && r.condition === D.blocks[state.block].condition);
function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const tip = one("tip");
function show(event, text) {
  tip.textContent = text;
  tip.classList.add("on");
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
  tip.style.top = Math.max(4, event.clientY - height - 10) + "px";
}
const hide = () => tip.classList.remove("on");
function telling(element, text) {
  element.onmousemove = (event) => show(event, text);
  element.onmouseleave = hide;
}
