// Lines over rounds: accuracy, and what clients minimised.

const AXES = { rounds: "round", megabytes: "MB sent and received per client", seconds: "seconds of training" };

// The lines of a figure: `{ id, label, look, xs, mean, min, max }`. In a comparison a line is a strategy, in a
// run it is a figure of the run.
function seriesOf(curves) {
  return curves.filter((c) => c.block === state.block && c.rounds.length).map((c) => {
    const own = c.label ? { id: c.label, label: c.label, ...lookOf(runLines, c.label) } : { id: c.method, label: D.methods[c.method].label, ...look(c.method) };
    return { ...own, ...c };
  });
}
const runLines = new Map(["personal", "global", "server", "validation", "training", "distillation"].map((label, i) => [label, i % 4]));

// Draws lines with their bands; every line is named at its end.
function lines(svg, W, all, { x, low, high, told, axis, title }) {
  const narrow = isNarrow(W), H = narrow ? 270 : 400, left = 46, right = narrow ? 98 : 225, top = 26, bottom = 42;
  const series = all.filter((s) => s[x].some((v) => !missing(v)));
  const places = series.flatMap((s) => s[x]).filter((v) => !missing(v));
  const first = x === "rounds" ? Math.min(...places) : 0, last = Math.max(...places);
  const X = linear(first, last, left, W - right), Y = linear(low, high, H - bottom, top);
  horizontals(svg, low, high, Y, left, W - right, axis);
  make(svg, "text", { x: 0, y: 11 }, title);
  make(svg, "line", { class: "axis", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom });
  for (const v of ticks(first, last, narrow ? 4 : 8)) {
    if (x === "rounds" && v % 1) continue;
    make(svg, "text", { x: X(v), y: H - bottom + 18, "text-anchor": "middle" }, +v.toPrecision(6));
  }
  make(svg, "text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }, AXES[x]);
  const labels = [];
  for (const s of series) {
    const faded = state.muted.has(s.id) ? " muted" : "", at = s[x];
    const shown = at.map((_, i) => i).filter((i) => !missing(at[i]) && !missing(s.mean[i]));
    if (!shown.length) continue;
    const point = (list) => (i) => `${X(at[i]).toFixed(1)},${Y(Math.max(low, Math.min(high, list[i] ?? s.mean[i]))).toFixed(1)}`;
    if (s.min) {
      const outline = [...shown.map(point(s.max)), ...[...shown].reverse().map(point(s.min))];
      make(svg, "polygon", { class: "band" + faded, points: outline.join(" "), fill: s.colour });
    }
    make(svg, "polyline", { class: "line" + faded, points: shown.map(point(s.mean)).join(" "), stroke: s.colour, "stroke-dasharray": s.dash });
    const end = shown[shown.length - 1];
    if (shown.length === 1) make(svg, "circle", { cx: X(at[end]), cy: Y(s.mean[end]), r: 4, fill: s.colour, class: faded });
    labels.push({ y: Y(s.mean[end]), s, value: s.mean[end], faded });
  }
  apart(labels, narrow ? 14 : 17, top, H - bottom);
  for (const { y, s, value, faded } of labels) {
    const name = make(svg, "text", { class: "hit" + faded, x: W - right + (narrow ? 6 : 14), y: y + 4, style: `fill:${s.colour};font-weight:600` });
    name.textContent = narrow ? shorten(s.label, 14) : told(value) + "  " + shorten(s.label, 21);
    make(name, "title", {}, s.label);
    name.onclick = () => toggle(s.id);
  }
  cross(svg, series, W, x, X, told, { left, right: W - right, top, bottom: H - bottom });
  return H;
}

function toggle(id) {
  state.muted.has(id) ? state.muted.delete(id) : state.muted.add(id);
  drawCurves();
  drawLosses();
}

// A line that follows the pointer, or the arrow keys, and reads all values under it.
function cross(svg, series, W, x, X, told, box) {
  const line = make(svg, "line", { class: "axis", y1: box.top, y2: box.bottom, visibility: "hidden" });
  const places = [...new Set(series.flatMap((s) => s[x]).filter((v) => !missing(v)))].sort((a, b) => a - b);
  let now = places.length - 1;
  function read(event) {
    const at = places[now];
    line.setAttribute("x1", X(at)); line.setAttribute("x2", X(at)); line.setAttribute("visibility", "visible");
    const found = series.filter((s) => !state.muted.has(s.id)).map((s) => {
      let i = -1;
      s[x].forEach((v, k) => { if (!missing(v) && v <= at + 1e-12 && !missing(s.mean[k])) i = k; });
      return [i < 0 ? null : s.mean[i], s.label];
    }).filter(([v]) => v !== null).sort((a, b) => b[0] - a[0]);
    show(event, `${AXES[x]} ${+at.toPrecision(6)}\n` + found.map(([v, name]) => `${told(v).padStart(5)}  ${name}`).join("\n"));
  }
  svg.onmousemove = (event) => {
    const area = svg.getBoundingClientRect(), at = ((event.clientX - area.left) / area.width) * W;
    now = places.reduce((best, v, i) => (Math.abs(X(v) - at) < Math.abs(X(places[best]) - at) ? i : best), 0);
    read(event);
  };
  svg.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    now = Math.max(0, Math.min(places.length - 1, now + step));
    const area = svg.getBoundingClientRect();
    read({ clientX: area.left + (X(places[now]) / W) * area.width, clientY: area.top + 40 });
  };
  svg.onmouseleave = svg.onblur = () => { hide(); line.setAttribute("visibility", "hidden"); };
}

function legend(parent, id, series) {
  if (series.length < 2) return;
  const bar = make(parent, "div", { class: "legend", role: "group", "aria-label": "Lines shown" });
  for (const s of series) {
    const button = make(bar, "button", { type: "button", "aria-pressed": !state.muted.has(s.id) });
    key(button, s);
    button.append(s.label);
    button.onclick = () => { toggle(s.id); [...one(id).querySelectorAll(".legend button")].find((b) => b.textContent === s.label).focus(); };
  }
}

const lineRows = (series) => () => {
  const kinds = ["rounds", "megabytes", "seconds", "mean", "min", "max"].filter((kind) => series.some((s) => s[kind]));
  return [["line", ...kinds], ...series.flatMap((s) => s.rounds.map((_, i) => [s.label, ...kinds.map((kind) => s[kind]?.[i])]))];
};

function drawCurves() {
  const series = seriesOf(D.kind === "run" ? Object.values(D.curves).flat() : D.curves[state.metric] || []);
  const values = series.flatMap((s) => [...s.mean, ...(s.min || []), ...(s.max || [])]).filter((v) => !missing(v));
  if (!values.length) { fill("curves"); return; }
  const run = D.kind === "run", what = run ? (FIGURE.startsWith("mean ") ? FIGURE : `Mean ${FIGURE}`) : `Mean ${state.metric} ${FIGURE}`;
  const band = run ? "one standard deviation over clients" : D.seeds.length > 1 ? "the range over seeds" : null;
  const body = fill("curves", `${what} over clients` + (band ? `; the band is ${band}.` : ".") +
    " Point at the picture, or use the arrow keys in it, to read values" + (series.length > 1 ? "; click a name to fade it." : "."));
  const bar = make(body, "div", { class: "row" });
  segments(bar, "against", [["rounds", "rounds"], ["megabytes", "traffic"], ["seconds", "time"]], state.x, (x) => { state.x = x; drawCurves(); });
  const [low, high] = endsOf(values);
  const shown = series.filter((s) => s[state.x].some((v) => !missing(v)));
  figure(body, "accuracy", `${what} against ${AXES[state.x]}`, (svg, W) =>
    lines(svg, W, shown, { x: state.x, low, high, told: level, axis: atAxis, title: run ? FIGURE : `${state.metric} ${FIGURE}` }), lineRows(shown), { tabindex: 0 });
  legend(body, "curves", shown);
}

function drawLosses() {
  const parts = [["train", "Training"], ["distill", "Distillation"]];
  const known = parts.map(([part, name]) => [name, part, seriesOf((D.losses || {})[part] || [])]).filter(([, , series]) => series.length);
  if (!known.length) { fill("losses"); return; }
  const body = fill("losses", "What clients minimised: the mean per row of the objective of training on their own rows, and of that with which they learn from a teacher, over the steps of a round" +
    (D.kind === "run" ? "; the band is one standard deviation over clients." : ".") +
    " Objectives differ between strategies: compare the course of a line, not its height with another's. A training loss that falls while accuracy does not is what overfitting looks like.");
  const pair = make(body, "div", { class: known.length > 1 ? "panels" : "" });
  const panels = known.map(([name]) => make(make(pair, "div"), "h3", {}, name).parentNode); // all of them first: they share the width
  known.forEach(([name, part, series], i) => {
    const values = series.flatMap((s) => [...s.mean, ...(s.min || []), ...(s.max || [])]).filter((v) => !missing(v));
    const most = Math.max(...values), least = Math.min(0, ...values), step = ticks(least, most, 5);
    const high = Math.max(most, step[step.length - 1] || 0) || 1, told = (v) => +v.toPrecision(3);
    figure(panels[i], `${part}-loss`, `${name} loss against rounds`, (svg, W) =>
      lines(svg, W, series, { x: "rounds", low: least, high, told: (v) => String(told(v)), axis: told, title: `${name.toLowerCase()} loss` }), lineRows(series), { tabindex: 0 });
  });
  legend(body, "losses", known[0][2]);
}
