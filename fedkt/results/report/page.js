"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const state = { block: 0, metric: D.metric, x: "rounds", muted: new Set(), sort: null, run: {}, matrix: {} };
  const one = (id) => document.getElementById(id);

  // Elements ------------------------------------------------------------------------------------------

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

  function fill(id, note) {
    const section = one(id);
    section.hidden = false;
    if (note !== undefined) section.querySelector("[data-note]").textContent = note;
    const body = section.querySelector("[data-body]");
    body.textContent = "";
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

  // Words ---------------------------------------------------------------------------------------------

  const minus = (text) => text.replace("-", "−");
  const missing = (value) => value === null || value === undefined;
  const percent = (value, digits = 1) => (missing(value) ? "–" : (100 * value).toFixed(digits));
  const signed = (value) => {
    if (missing(value)) return "–";
    const text = (100 * value).toFixed(1);
    return /^-?0\.0$/.test(text) ? "0.0" : minus((value > 0 ? "+" : "") + text);
  };
  const number = (value, digits) => (missing(value) ? "–" : value.toFixed(digits));
  const significant = (value) => (missing(value) ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3));
  function size(count) {
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (count < 1000 || unit === "GB") return (unit === "B" ? count.toFixed(0) : count.toFixed(1)) + " " + unit;
      count /= 1000;
    }
  }
  const blockName = (block) => [block.scenario, block.condition].filter(Boolean).join(" · ");
  const isBound = (method) => ["local", "central"].includes(D.methods[method].strategy);
  const colours = new Map();
  D.methods.forEach((method, i) => {
    colours.set(i, isBound(i) && D.methods.length > 1 ? "var(--bound)" : `var(--c${colours.free || 0})`);
    if (!isBound(i)) colours.free = ((colours.free || 0) + 1) % 8;
  });
  const dashes = (method) => (D.methods.length < 2 ? null : { local: "2 4", central: "8 4" }[D.methods[method].strategy] || null);

  const tip = one("tip");
  function show(event, text) {
    tip.textContent = text;
    tip.classList.add("on");
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
    tip.style.top = Math.max(4, event.clientY - height - 10) + "px";
  }
  const hide = () => tip.classList.remove("on");

  // Scales --------------------------------------------------------------------------------------------

  function ticks(low, high, wanted) {
    const raw = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
    return found;
  }
  const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

  function percentages(svg, low, high, Y, left, right) {
    ticks(low, high, 6).forEach((v, i, all) => {
      make(svg, "line", { class: "grid", x1: left, x2: right, y1: Y(v), y2: Y(v) });
      make(svg, "text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, (100 * v).toFixed(0) + (i === all.length - 1 ? " %" : ""));
    });
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

  // The table -----------------------------------------------------------------------------------------

  const rowsHere = () => {
    const block = D.blocks[state.block];
    return (D.tables[state.metric] || []).filter((r) => r.scenario === block.scenario && r.condition === block.condition);
  };
  const indexOf = (label) => D.methods.findIndex((method) => method.label === label);

  const withSpread = (r) => percent(r.mean) + (missing(r.low) ? "" : " ± " + percent((r.high - r.low) / 2));

  function drawTable() {
    if (!D.tables[state.metric]) return;
    const rows = rowsHere(), many = rows.some((row) => row.seeds > 1);
    const test = many
      ? "Whiskers and ± are 95 % intervals over seeds. q is the p-value of the paired t-test against " + D.baseline +
        ", corrected for all tests of this report (Benjamini–Yekutieli)."
      : "One seed: there are no intervals and no tests.";
    const partly = rows.some((row) => row.reached > 0 && row.reached < 1) ? " In brackets: the share of seeds that got there." : "";
    const body = fill("table", test + partly + " Click a heading to sort.");
    const columns = [
      ["strategy", (r) => r.method, null],
      [`${state.metric} accuracy, %`, (r) => r.mean, null],
      ["", (r) => r.mean, withSpread],
      [`against ${D.baseline}`, (r) => r.difference, (r) => signed(r.difference), (r) => (r.q !== null && r.q < 0.05 ? (r.difference > 0 ? "good" : "bad") : "")],
      ["q", (r) => r.q, (r) => significant(r.q)],
      ["clients worse off, %", (r) => r.worse, (r) => percent(r.worse, 0)],
      ["worst tenth, %", (r) => r.worst, (r) => percent(r.worst)],
      ["MB per client", (r) => r.megabytes, (r) => number(r.megabytes, 3)],
      ["points per MB", (r) => r.per_megabyte, (r) => minus(number(r.per_megabyte, 1))],
      [rows.length && rows[0].budget ? `% at ${size(1e6 * rows[0].budget)}` : "% at budget", (r) => r.at_budget, (r) => percent(r.at_budget)],
      [rows.length && rows[0].target ? `rounds to ${percent(rows[0].target)} %` : "rounds to target", (r) => r.to_target_rounds, (r) => number(r.to_target_rounds, 1) + (r.reached > 0 && r.reached < 1 ? ` (${percent(r.reached, 0)} %)` : "")],
      ["seconds to it", (r) => r.to_target_seconds, (r) => number(r.to_target_seconds, 1)],
      ["rank", (r) => r.rank, (r) => number(r.rank, 1)],
    ].filter(([, value, , ], i) => i < 3 || rows.some((row) => !missing(value(row))));
    const table = make(body, "table"), head = make(make(table, "thead"), "tr"), lines = make(table, "tbody");
    const sort = state.sort || { column: 1, down: true };
    columns.forEach(([name, , ], i) => {
      const cell = make(head, "th", { scope: "col" });
      if (i === 2) return;
      if (i === 1) cell.colSpan = 1;
      const button = make(cell, "button", { type: "button" }, name);
      if (sort.column === i) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      button.onclick = () => {
        state.sort = { column: i, down: sort.column === i ? !sort.down : i > 0 };
        drawTable();
        one("table").querySelectorAll("th")[i].querySelector("button").focus();
      };
    });
    const value = columns[sort.column][1];
    const ordered = [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * (sort.down ? -1 : 1);
    });
    const ends = rows.flatMap((r) => [r.mean, r.low, r.high]).filter((v) => !missing(v));
    const low = Math.max(0, Math.min(...ends)), high = Math.min(1, Math.max(...ends));
    const scale = linear(low, high, 12, 208);
    for (const row of ordered) {
      const method = indexOf(row.method);
      const line = make(lines, "tr", { class: isBound(method) ? "bound" : null });
      columns.forEach(([, , text, look], i) => {
        if (i === 0) {
          const cell = make(line, "td");
          make(cell, "span", { class: "swatch", style: `background:${colours.get(method)}` });
          cell.append(row.method);
        } else if (i === 1) {
          const svg = make(make(line, "td", { class: "plot" }), "svg", { viewBox: "0 0 220 26", role: "img", "aria-label": percent(row.mean) + " %" });
          make(svg, "line", { class: "grid", x1: 12, x2: 208, y1: 13, y2: 13 });
          if (!missing(row.low)) make(svg, "line", { x1: scale(Math.max(low, row.low)), x2: scale(Math.min(high, row.high)), y1: 13, y2: 13, stroke: colours.get(method), "stroke-width": 2, "stroke-linecap": "round" });
          if (!missing(row.mean)) make(svg, "circle", { cx: scale(row.mean), cy: 13, r: 5, fill: colours.get(method) });
        } else make(line, "td", { class: look ? look(row) : null }, text(row));
      });
    }
  }

  // Swept settings: the last one, or else the strategies, side by side ----------------------------------

  function drawSweep() {
    const { scenario } = D.blocks[state.block], blocks = D.blocks.filter((b) => b.scenario === scenario && Object.keys(b.settings).length);
    if (blocks.length < 2 || !D.tables[state.metric]) { one("sweep").hidden = true; return; }
    const keys = Object.keys(blocks[0].settings), across = keys.length > 1 ? keys.pop() : null;
    const rowOf = (block) => keys.map((key) => block.settings[key]).join(", ");
    const lines = [...new Set(blocks.map(rowOf))];
    const body = fill("sweep", `Mean ${state.metric} accuracy in per cent` + (D.seeds.length > 1 ? ", ± its 95 % interval over seeds" : "") + "; the best of a row is bold. All figures under one setting are in the table above.");
    if (across !== null && D.methods.length > 1) {
      if (state.swept === undefined) state.swept = Math.max(0, D.methods.findIndex((_, i) => !isBound(i)));
      select(make(body, "div", { class: "row" }), "strategy", D.methods.map((m, i) => [i, m.label]), state.swept, (i) => { state.swept = +i; drawSweep(); });
    }
    const heads = across === null ? D.methods.map((m) => m.label) : [...new Set(blocks.map((b) => b.settings[across]))];
    const table = make(make(body, "div", { class: "wide" }), "table"), head = make(make(table, "thead"), "tr"), rows = make(table, "tbody");
    make(head, "th", { scope: "col" }, keys.join(", "));
    for (const name of heads) make(head, "th", { scope: "col" }, across === null ? name : `${across}=${name}`);
    for (const name of lines) {
      const found = heads.map((column) => {
        const block = blocks.find((b) => rowOf(b) === name && (across === null || b.settings[across] === column));
        const method = across === null ? column : D.methods[state.swept ?? 0].label;
        return block && D.tables[state.metric].find((r) => r.scenario === scenario && r.condition === block.condition && r.method === method);
      });
      const line = make(rows, "tr"), best = Math.max(...found.filter((r) => r && !missing(r.mean) && !missing(r.rank)).map((r) => r.mean));
      make(line, "td", {}, name);
      for (const row of found) {
        const cell = make(line, "td", {}, row ? withSpread(row) : "–");
        if (row && row.mean === best && !missing(row.rank)) cell.style.fontWeight = 700;
      }
    }
  }

  // Curves --------------------------------------------------------------------------------------------

  const AXES = { rounds: "round", megabytes: "MB sent and received per client", seconds: "seconds of training" };

  function drawCurves() {
    const all = (D.curves[state.metric] || []).filter((c) => c.block === state.block && c.rounds.length);
    if (!all.length) return;
    const band = D.kind === "run" ? "one standard deviation over clients" : D.seeds.length > 1 ? "the range over seeds" : null;
    const body = fill("curves", `Mean ${state.metric} accuracy over clients` + (band ? `; the band is ${band}.` : ".") +
      " Point at the picture, or use the arrow keys in it, to read values" + (all.length > 1 ? "; click a name to fade it." : "."));
    const bar = make(body, "div", { class: "row" });
    segments(bar, "against", [["rounds", "rounds"], ["megabytes", "traffic"], ["seconds", "time"]], state.x, (x) => { state.x = x; drawCurves(); });
    const xs = (c) => c[state.x].map((v) => (missing(v) ? null : v));
    const curves = all.filter((c) => xs(c).some((v) => v !== null));
    const W = 1000, H = 400, left = 44, right = 225, top = 12, bottom = 40;
    const values = curves.flatMap((c) => [...c.min, ...c.max]).filter((v) => v !== null);
    if (!values.length) return;
    const low = Math.max(0, Math.floor(10 * Math.min(...values)) / 10), high = Math.min(1, Math.ceil(20 * Math.max(...values)) / 20);
    const places = curves.flatMap(xs).filter((v) => v !== null);
    const first = state.x === "rounds" ? Math.min(...places) : 0, last = Math.max(...places);
    const X = linear(first, last, left, W - right), Y = linear(low, high, H - bottom, top);
    const figure = make(body, "figure");
    const svg = make(figure, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": `${state.metric} accuracy against ${AXES[state.x]}` });
    percentages(svg, low, high, Y, left, W - right);
    make(svg, "line", { class: "axis", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom });
    for (const v of ticks(first, last, 8)) {
      if (state.x === "rounds" && v % 1) continue;
      make(svg, "text", { x: X(v), y: H - bottom + 18, "text-anchor": "middle" }, +v.toPrecision(6));
    }
    make(svg, "text", { x: (left + W - right) / 2, y: H - 4, "text-anchor": "middle" }, AXES[state.x]);
    const labels = [];
    for (const curve of curves) {
      const at = xs(curve), colour = colours.get(curve.method), faded = state.muted.has(curve.method) ? " muted" : "";
      const shown = at.map((v, i) => i).filter((i) => at[i] !== null && curve.mean[i] !== null);
      if (!shown.length) continue;
      const point = (list) => (i) => `${X(at[i]).toFixed(1)},${Y(Math.max(low, Math.min(high, list[i]))).toFixed(1)}`;
      if (band) {
        const outline = [...shown.map(point(curve.max)), ...[...shown].reverse().map(point(curve.min))];
        make(svg, "polygon", { class: "band" + faded, points: outline.join(" "), fill: colour });
      }
      make(svg, "polyline", { class: "line" + faded, points: shown.map(point(curve.mean)).join(" "), stroke: colour, "stroke-dasharray": dashes(curve.method) });
      const end = shown[shown.length - 1];
      if (shown.length === 1) make(svg, "circle", { cx: X(at[end]), cy: Y(curve.mean[end]), r: 4, fill: colour, class: faded });
      labels.push({ x: X(at[end]), y: Y(curve.mean[end]), curve, value: curve.mean[end], faded });
    }
    apart(labels, 17, top, H - bottom);
    for (const label of labels) {
      const { method } = label.curve;
      const text = make(svg, "text", { class: "hit" + label.faded, x: W - right + 14, y: label.y + 4, style: `fill:${colours.get(method)};font-weight:600` });
      text.textContent = percent(label.value) + "  " + shorten(D.kind === "run" ? state.metric : D.methods[method].label, 21);
      make(text, "title", {}, D.methods[method].label);
      text.onclick = () => toggle(method);
    }
    cross(svg, curves, xs, X, Y, { left, right: W - right, top, bottom: H - bottom });
    if (curves.length > 1) {
      const legend = make(body, "div", { class: "legend", role: "group", "aria-label": "Strategies shown" });
      for (const { method } of curves) {
        const button = make(legend, "button", { type: "button", "aria-pressed": !state.muted.has(method) });
        const key = make(button, "svg", { viewBox: "0 0 24 6", class: "key", "aria-hidden": true });
        make(key, "line", { "stroke-width": 2, x1: 0, x2: 24, y1: 3, y2: 3, stroke: colours.get(method), "stroke-dasharray": dashes(method) });
        button.append(D.methods[method].label);
        button.onclick = () => { toggle(method); [...one("curves").querySelectorAll(".legend button")].find((b) => b.textContent === D.methods[method].label).focus(); };
      }
    }
  }
  const shorten = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  function toggle(method) {
    state.muted.has(method) ? state.muted.delete(method) : state.muted.add(method);
    drawCurves();
  }
  function cross(svg, curves, xs, X, Y, box) {
    const line = make(svg, "line", { class: "axis", y1: box.top, y2: box.bottom, visibility: "hidden" });
    const places = [...new Set(curves.flatMap(xs).filter((v) => v !== null))].sort((a, b) => a - b);
    let now = places.length - 1;
    function read(event) {
      const at = places[now];
      line.setAttribute("x1", X(at)); line.setAttribute("x2", X(at)); line.setAttribute("visibility", "visible");
      const told = curves.filter((c) => !state.muted.has(c.method)).map((curve) => {
        const list = xs(curve);
        let i = -1;
        list.forEach((v, k) => { if (v !== null && v <= at + 1e-12 && curve.mean[k] !== null) i = k; });
        return [i < 0 ? null : curve.mean[i], D.kind === "run" ? state.metric : D.methods[curve.method].label];
      }).filter(([v]) => v !== null).sort((a, b) => b[0] - a[0]);
      show(event, `${AXES[state.x]} ${+at.toPrecision(6)}\n` + told.map(([v, name]) => `${percent(v).padStart(5)}  ${name}`).join("\n"));
    }
    svg.onmousemove = (event) => {
      const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * 1000;
      now = places.reduce((best, v, i) => (Math.abs(X(v) - x) < Math.abs(X(places[best]) - x) ? i : best), 0);
      read(event);
    };
    svg.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      now = Math.max(0, Math.min(places.length - 1, now + step));
      const area = svg.getBoundingClientRect();
      read({ clientX: area.left + (X(places[now]) / 1000) * area.width, clientY: area.top + 40 });
    };
    svg.onmouseleave = svg.onblur = () => { hide(); line.setAttribute("visibility", "hidden"); };
  }

  // Gains of single clients ---------------------------------------------------------------------------

  function drawGains() {
    const block = D.blocks[state.block];
    const groups = ((D.gains || {})[state.metric] || []).filter((g) => g.scenario === block.scenario && g.condition === block.condition && g.method !== "local");
    if (!groups.length) { one("gains").hidden = true; return; }
    const body = fill("gains", "Each dot is one client of one seed: its accuracy minus that of the same client trained alone, in points. Left of the line it would have been better off alone; the bar is the median.");
    const ordered = groups.map((g) => ({ ...g, mid: median(g.gain) })).sort((a, b) => b.mid - a.mid);
    const W = 1000, left = 210, right = 150, step = 38, H = ordered.length * step + 46;
    const ends = ordered.flatMap((g) => g.gain);
    const low = Math.min(-0.02, ...ends), high = Math.max(0.02, ...ends), X = linear(low, high, left, W - right - 8);
    const svg = make(body, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Gain of every client against training alone" });
    for (const v of ticks(low, high, 8)) {
      make(svg, "line", { class: Math.abs(v) < 1e-9 ? "zero" : "grid", x1: X(v), x2: X(v), y1: 6, y2: H - 36 });
      make(svg, "text", { x: X(v), y: H - 18, "text-anchor": "middle" }, signed(v).replace(".0", ""));
    }
    make(svg, "text", { x: (left + W - right) / 2, y: H - 2, "text-anchor": "middle" }, "points gained by the client");
    ordered.forEach((group, i) => {
      const y = 6 + step * (i + 0.5), method = indexOf(group.method);
      const { worse } = rowsHere().find((row) => row.method === group.method);
      make(make(svg, "text", { class: "strong", x: left - 16, y: y + 4, "text-anchor": "end" }, shorten(group.method, 26)), "title", {}, group.method);
      const layer = make(svg, "g", { fill: colours.get(method), opacity: group.gain.length > 200 ? 0.3 : 0.55 });
      group.gain.forEach((v, k) => {
        const jitter = (((k * 0.61803) % 1) - 0.5) * step * 0.55; // the golden ratio spreads neighbours apart
        const dot = make(layer, "circle", { cx: X(v).toFixed(1), cy: (y + jitter).toFixed(1), r: 3.2 });
        dot.onmousemove = (event) => show(event, `${group.method}, client ${group.clients[k]}, seed ${group.seeds[k]}: ${signed(v)} points`);
        dot.onmouseleave = hide;
      });
      make(svg, "line", { x1: X(group.mid), x2: X(group.mid), y1: y - 13, y2: y + 13, stroke: "var(--ink)", "stroke-width": 2 });
      make(svg, "text", { x: W - right + 16, y: y + 4 }, `${percent(worse, 0)} % worse off`);
    });
  }
  function median(values) {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  // Fields of many cells ------------------------------------------------------------------------------

  const unpack = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const rgb = (name) => {
    const probe = make(document.body, "i", { style: `color:var(${name})` });
    const found = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return found;
  };

  // Paints rows x columns of bytes; the caller says what a cell is called. Arrow keys walk over cells.
  function field(parent, bytes, rows, columns, name, label, low = 0, high = 250) {
    const most = rows === columns ? 30 : 22;
    const cell = Math.max(2, Math.min(most, Math.floor(900 / columns), Math.floor(520 / rows) || 2));
    const wide = Math.max(cell, Math.min(rows === columns ? most : 56, Math.floor(900 / columns)));
    const stops = ["--low", "--mid", "--high"].map(rgb);
    const canvas = make(parent, "canvas", { tabindex: 0, role: "img", "aria-label": label });
    canvas.width = columns * wide; canvas.height = rows * cell;
    const paint = canvas.getContext("2d");
    const colour = (v) => {
      const t = 2 * Math.max(0, Math.min(1, (v - low) / (high - low || 1))), i = Math.min(1, Math.floor(t));
      return `rgb(${stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (t - i))).join(",")})`;
    };
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
      const v = bytes[r * columns + c];
      if (v === 255) continue;
      paint.fillStyle = colour(v);
      paint.fillRect(c * wide, r * cell, wide - (wide > 6 ? 1 : 0), cell - (cell > 6 ? 1 : 0));
    }
    let at = [0, 0];
    const tell = (event) => { const v = bytes[at[0] * columns + at[1]]; show(event, name(at[0], at[1]) + ": " + (v === 255 ? "not measured" : percent(v / 250, 0) + " %")); };
    canvas.onmousemove = (event) => {
      const box = canvas.getBoundingClientRect();
      at = [Math.min(rows - 1, Math.floor(((event.clientY - box.top) / box.height) * rows)), Math.min(columns - 1, Math.floor(((event.clientX - box.left) / box.width) * columns))];
      tell(event);
    };
    canvas.onkeydown = (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      at = [Math.max(0, Math.min(rows - 1, at[0] + step[0])), Math.max(0, Math.min(columns - 1, at[1] + step[1]))];
      const box = canvas.getBoundingClientRect();
      tell({ clientX: box.left + ((at[1] + 0.5) / columns) * box.width, clientY: box.top + (at[0] / rows) * box.height });
    };
    canvas.onmouseleave = canvas.onblur = hide;
    return canvas;
  }
  function scale(parent, low, high) {
    const line = make(parent, "span", { class: "scale" });
    make(line, "span", {}, percent(low / 250, 0) + " %");
    make(line, "i");
    make(line, "span", {}, percent(high / 250, 0) + " %");
  }

  function runsHere(wanted) {
    return D.runs.filter((run) => run.block === state.block && wanted(run));
  }
  function pickRun(bar, runs, memory, redraw, withSeed) {
    const methods = [...new Set(runs.map((run) => run.method))];
    if (!methods.includes(memory.method)) memory.method = methods.find((m) => !isBound(m)) ?? methods[0];
    const seeds = runs.filter((run) => run.method === memory.method).map((run) => run.seed);
    if (!seeds.includes(memory.seed)) memory.seed = seeds[0];
    if (methods.length > 1) select(bar, "strategy", methods.map((m) => [m, D.methods[m].label]), memory.method, (m) => { memory.method = +m; redraw(); });
    if (withSeed && seeds.length > 1) select(bar, "seed", seeds.map((s) => [s, s]), memory.seed, (s) => { memory.seed = +s; redraw(); });
    return runs.find((run) => run.method === memory.method && run.seed === memory.seed);
  }

  function drawHeat() {
    const runs = runsHere((run) => run.heat && run.heat[state.metric]);
    if (!runs.length) { one("heat").hidden = true; return; }
    const body = fill("heat", `The ${state.metric} accuracy of each client (a row) after each round (a column). ${document.documentElement.dataset.theme === "dark" ? "Brighter" : "Darker"} is better; clients are in order of their last accuracy.`);
    const bar = make(body, "div", { class: "row" });
    const run = pickRun(bar, runs, state.run, drawHeat, true);
    const raw = unpack(run.heat[state.metric]), columns = run.rounds.length, rows = run.clients.length;
    const order = run.clients.map((_, k) => k).sort((a, b) => raw[b * columns + columns - 1] - raw[a * columns + columns - 1]);
    const bytes = new Uint8Array(raw.length);
    order.forEach((k, r) => bytes.set(raw.subarray(k * columns, (k + 1) * columns), r * columns));
    const all = [...raw].filter((v) => v !== 255), low = all.reduce((a, b) => Math.min(a, b), 250), high = all.reduce((a, b) => Math.max(a, b), 0);
    scale(bar, low, high);
    field(body, bytes, rows, columns, (r, c) => `client ${run.clients[order[r]]}, round ${run.rounds[c]}`, `Accuracy of ${rows} clients over ${columns} rounds`, low, high);
    make(body, "p", { class: "note" }, `round ${run.rounds[0]} to ${run.rounds[columns - 1]}, ${rows} clients`);
  }

  function drawMatrix() {
    const runs = runsHere((run) => run.matrices);
    if (!runs.length) { one("matrix").hidden = true; return; }
    const body = fill("matrix", "Row: the client that learns. Column: whose knowledge it takes. A row adds up to 100 %.");
    const bar = make(body, "div", { class: "row" });
    const run = pickRun(bar, runs, state.matrix, drawMatrix, false);
    const frames = run.matrices, control = make(bar, "label", { class: "control" });
    const named = make(control, "span"), slider = make(control, "input", { type: "range", min: 0, max: frames.length - 1, step: 1 });
    slider.value = frames.length - 1;
    const pair = make(body, "div", { class: "pair" });
    function draw() {
      const frame = frames[+slider.value], bytes = unpack(frame.weights), n = frame.clients.length;
      named.textContent = `round ${frame.round}`;
      slider.setAttribute("aria-valuetext", `round ${frame.round}`);
      pair.textContent = "";
      const high = bytes.reduce((a, b) => Math.max(a, b), 1);
      field(pair, bytes, n, n, (r, c) => `client ${frame.clients[r]} takes from ${frame.clients[c]}`, `Weights between ${n} clients in round ${frame.round}`, 0, high);
      const side = make(pair, "div");
      scale(side, 0, high);
      const own = frame.clients.reduce((sum, _, k) => sum + bytes[k * n + k], 0) / n / 250;
      make(side, "p", { class: "note" }, `On average a client keeps ${percent(own, 0)} % of its own knowledge in this round.`);
    }
    slider.oninput = draw;
    draw();
  }

  // Across scenarios ----------------------------------------------------------------------------------

  function drawRanks() {
    const found = (D.ranks || {})[state.metric];
    if (!found) { one("ranks").hidden = true; return; }
    const body = fill("ranks", `Mean rank over ${found.blocks} scenarios and conditions, 1 is best. Strategies under one bar lie within the critical difference of ` +
      `${found.difference.toFixed(2)} ranks (Nemenyi, 5 %): they cannot be told apart. Friedman's test: p = ${significant(found.p)}.`);
    const W = 1000, left = 200, right = 200, k = found.methods.length, half = Math.ceil(k / 2), top = 56 + 14 * found.groups.length;
    const H = top + half * 24 + 20, X = linear(1, k, left, W - right);
    const svg = make(body, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Critical difference diagram" });
    make(svg, "line", { class: "zero", x1: X(1), x2: X(k), y1: 40, y2: 40 });
    for (let i = 1; i <= k; i++) {
      make(svg, "line", { class: "zero", x1: X(i), x2: X(i), y1: 34, y2: 40 });
      make(svg, "text", { x: X(i), y: 28, "text-anchor": "middle" }, i);
    }
    found.groups.forEach(([a, b], i) => make(svg, "line", { x1: X(found.ranks[a]) - 5, x2: X(found.ranks[b]) + 5, y1: 54 + 14 * i, y2: 54 + 14 * i, stroke: "var(--ink)", "stroke-width": 5, "stroke-linecap": "round" }));
    found.methods.forEach((name, i) => {
      const before = i < half, level = before ? i : k - 1 - i, y = top + 16 + level * 24, x = X(found.ranks[i]), end = before ? left - 20 : W - right + 20;
      const colour = colours.get(indexOf(name));
      make(svg, "polyline", { points: `${x},40 ${x},${y} ${end},${y}`, fill: "none", stroke: colour, "stroke-width": 1.5 });
      make(svg, "text", { class: "strong", x: end + (before ? -8 : 8), y: y + 4, "text-anchor": before ? "end" : "start" }, `${shorten(name, 22)}  ${found.ranks[i].toFixed(2)}`);
    });
    const table = make(make(body, "div", { class: "wide" }), "table"), head = make(make(table, "thead"), "tr");
    make(head, "th", { scope: "col" }, "scenario");
    D.methods.forEach((m) => make(head, "th", { scope: "col" }, m.label));
    const lines = make(table, "tbody");
    for (const block of D.blocks) {
      const line = make(lines, "tr"), rows = D.tables[state.metric].filter((r) => r.scenario === block.scenario && r.condition === block.condition);
      make(line, "td", {}, blockName(block));
      const best = Math.max(...rows.filter((r) => r.rank !== null).map((r) => r.mean));
      for (const method of D.methods) {
        const row = rows.find((r) => r.method === method.label);
        const cell = make(line, "td", { class: row && row.rank === null ? "dim" : null }, row ? percent(row.mean) : "–");
        if (row && row.rank !== null && row.mean === best) cell.style.fontWeight = 700;
      }
    }
  }

  function drawEpsilon() {
    const block = D.blocks[state.block], rows = ((D.epsilon || {})[state.metric] || []).filter((r) => r.scenario === block.scenario);
    if (rows.length < 2) { one("epsilon").hidden = true; return; }
    const body = fill("epsilon", "ε is the largest over clients after the last round; smaller is more private. Dashed: training alone, and pooling all data.");
    const W = 1000, H = 360, left = 44, right = 190, top = 12, bottom = 40;
    const bounds = (D.tables[state.metric] || []).filter((r) => r.scenario === block.scenario && ["local", "central"].includes(r.strategy));
    const values = [...rows.flatMap((r) => [r.mean, r.low, r.high]), ...bounds.map((r) => r.mean)].filter((v) => !missing(v)).map((v) => Math.max(0, Math.min(1, v)));
    const low = Math.floor(10 * Math.min(...values)) / 10, high = Math.min(1, Math.ceil(20 * Math.max(...values)) / 20), eps = rows.map((r) => r.epsilon).filter((v) => v > 0);
    const X = linear(Math.log10(Math.min(...eps)), Math.log10(Math.max(...eps)), left + 20, W - right - 20), Y = linear(low, high, H - bottom, top);
    const svg = make(body, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Accuracy against epsilon" });
    percentages(svg, low, high, Y, left, W - right);
    for (const v of [...new Set(eps)]) make(svg, "text", { x: X(Math.log10(v)), y: H - bottom + 18, "text-anchor": "middle" }, +v.toPrecision(3));
    make(svg, "text", { x: (left + W - right) / 2, y: H - 4, "text-anchor": "middle" }, "ε (logarithmic)");
    const labels = [];
    for (const bound of bounds) {
      if (missing(bound.mean)) continue;
      make(svg, "line", { x1: left, x2: W - right, y1: Y(bound.mean), y2: Y(bound.mean), stroke: "var(--bound)", "stroke-dasharray": "6 4" });
      if (!labels.some((l) => l.name === bound.method)) labels.push({ y: Y(bound.mean), name: bound.method, colour: "var(--bound)" });
    }
    for (const name of [...new Set(rows.map((r) => r.method))]) {
      const points = rows.filter((r) => r.method === name && r.epsilon > 0 && !missing(r.mean)).sort((a, b) => a.epsilon - b.epsilon), colour = colours.get(indexOf(name));
      if (!points.length) continue;
      const at = (r) => X(Math.log10(r.epsilon));
      make(svg, "polyline", { class: "line", stroke: colour, points: points.map((r) => `${at(r)},${Y(r.mean)}`).join(" ") });
      for (const r of points) {
        if (!missing(r.low)) make(svg, "line", { x1: at(r), x2: at(r), y1: Y(Math.max(low, r.low)), y2: Y(Math.min(high, r.high)), stroke: colour });
        const dot = make(svg, "circle", { cx: at(r), cy: Y(r.mean), r: 5, fill: colour });
        dot.onmousemove = (event) => show(event, `${name}, ε = ${+r.epsilon.toPrecision(3)}: ${percent(r.mean)} %`);
        dot.onmouseleave = hide;
      }
      labels.push({ y: Y(points[points.length - 1].mean), name, colour });
    }
    apart(labels, 17, top, H - bottom);
    for (const label of labels) make(svg, "text", { x: W - right + 14, y: label.y + 4, style: `fill:${label.colour};font-weight:600` }, shorten(label.name, 24));
  }

  // Plain tables --------------------------------------------------------------------------------------

  function plain(parent, heads, rows, lefts = 1) {
    const table = make(parent, "table"), head = make(make(table, "thead"), "tr"), lines = make(table, "tbody");
    heads.forEach((name, i) => make(head, "th", { scope: "col", class: i < lefts ? "left" : null }, name));
    for (const row of rows) {
      const line = make(lines, "tr");
      row.forEach((text, i) => make(line, "td", { class: i < lefts ? "left" : null }, text));
    }
    return table;
  }

  function drawBytes() {
    const parts = D.parties.filter((p) => p.block === state.block);
    const told = Object.assign({}, ...parts.map((p) => p.methods));
    const rows = Object.entries(told).filter(([, about]) => about.bytes && about.message).map(([method, about]) => {
      const { bytes, clients, rounds, message, shares } = about, each = Math.max(1, clients * rounds), pooled = shares.includes("data");
      const list = (arrays) => Object.entries(arrays).map(([name, count]) => `${name} ${size(count)}`).join(", ") || "nothing";
      return [D.methods[method].label, pooled ? "all data" : shares.join(", "), pooled ? "–" : list(message.up), pooled ? "–" : list(message.down),
        pooled ? "–" : size(bytes.up / each), pooled ? "–" : size(bytes.down / each), pooled ? "–" : size(bytes.up + bytes.down)];
    });
    if (!rows.length) { one("bytes").hidden = true; return; }
    const body = fill("bytes", "Encoded knowledge and row ids, without Flower's envelope, settings and metrics. The parts are those of one full message of the first client; the sums were counted over all replies.");
    plain(body, ["strategy", "shares", "up consists of", "down consists of", "up per client and round", "down per client and round", "in all"], rows, 4);
  }

  function drawPartition() {
    const parts = D.parties.filter((p) => p.block === state.block && p.clients);
    if (!parts.length) { one("partition").hidden = true; return; }
    const transfer = parts[0].transfer;
    const body = fill("partition", "Training rows of each class (a row) at each client (a column): the area of a dot is their number." +
      (transfer ? ` Common to all: ${transfer.rows} unlabelled transfer rows.` : ""));
    const draw = (part) => {
      holder.textContent = "";
      const n = part.clients.length, classes = part.classes;
      if (n > 60 || classes > 40) {
        const high = Math.max(...part.clients.flatMap((c) => c.rows)), bytes = new Uint8Array(n * classes);
        part.clients.forEach((c, k) => c.rows.forEach((v, y) => { bytes[y * n + k] = Math.round((250 * v) / high); }));
        field(holder, bytes, classes, n, (r, c) => `class ${r}, client ${part.clients[c].client}: ${part.clients[c].rows[r]} rows, of the largest`, "Rows of each class and client");
        return;
      }
      const step = Math.min(44, 900 / n), tall = Math.min(26, 420 / classes), left = 60, W = Math.max(420, left + n * step + 20), H = classes * tall + 76;
      const svg = make(holder, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Rows of each class and client", style: `max-width:${W}px` });
      const largest = Math.max(...part.clients.flatMap((c) => c.rows)), most = Math.min(step, tall) * 0.48;
      for (let y = 0; y < classes; y++) {
        make(svg, "line", { class: "grid", x1: left - 6, x2: left + n * step, y1: 34 + tall * (y + 0.5), y2: 34 + tall * (y + 0.5) });
        make(svg, "text", { x: left - 14, y: 38 + tall * (y + 0.5), "text-anchor": "end" }, y);
      }
      make(svg, "text", { x: left - 14, y: 22, "text-anchor": "end" }, "rows");
      part.clients.forEach((client, k) => {
        const x = left + step * (k + 0.5), total = client.rows.reduce((a, b) => a + b, 0);
        if (step > 22) make(svg, "text", { x, y: 22, "text-anchor": "middle" }, total);
        if (step > 14 || k % 5 === 0) make(svg, "text", { x, y: H - 22, "text-anchor": "middle" }, client.domain && client.domain.length * 7 < step ? client.domain : client.client);
        client.rows.forEach((count, y) => {
          if (!count) return;
          const dot = make(svg, "circle", { cx: x, cy: 34 + tall * (y + 0.5), r: Math.max(0.8, most * Math.sqrt(count / largest)), fill: "var(--accent)" });
          dot.onmousemove = (event) => show(event, `client ${client.client}${client.domain ? ` (${client.domain})` : ""}, ${client.model}\n${count} rows of class ${y}, ${total} in all`);
          dot.onmouseleave = hide;
        });
      });
      make(svg, "text", { x: left + (n * step) / 2, y: H - 4, "text-anchor": "middle" }, "client");
    };
    const bar = make(body, "div", { class: "row" }), holder = make(body, "div");
    if (parts.length > 1) select(bar, "seed", parts.map((p, i) => [i, p.seed]), 0, (i) => draw(parts[+i]));
    draw(parts[0]);
  }

  function drawPrivacy() {
    const told = new Map();
    for (const part of D.parties) for (const [method, about] of Object.entries(part.methods)) {
      if (!about.privacy) continue;
      const { statement, epsilon, delta } = about.privacy;
      const text = statement + (missing(epsilon) ? "" : ` ε = ${+epsilon.toPrecision(3)}` + (delta ? ` at δ = ${delta}` : "") + ".");
      if (!told.has(text)) told.set(text, new Set());
      told.get(text).add(D.methods[method].label);
    }
    if (!told.size) return;
    const body = fill("privacy");
    for (const [text, methods] of told) {
      const line = make(body, "p");
      if (told.size > 1) make(line, "strong", {}, [...methods].join(", ") + ": ");
      line.append(text);
    }
  }

  function drawTuning() {
    if (!D.tuning.length) return;
    const body = fill("tuning", "Every strategy had the same settings to choose from. Chosen is what gave the best accuracy on validation rows, which are neither trained nor tested on; only those runs are compared above.");
    plain(body, ["scenario", "strategy", "settings", "validation accuracy, %", "seeds", "chosen"], D.tuning.map((r) => [[r.scenario, r.condition].filter(Boolean).join(" · "), r.method, r.tried, percent(r.validation), r.seeds, r.chosen ? "chosen" : ""]), 3);
  }

  function drawProblems() {
    if (!D.problems.length && !D.impossible.length) return;
    const list = make(fill("problems"), "ul");
    for (const text of D.problems) make(list, "li", {}, text);
    for (const one of D.impossible) {
      const where = [one.scenario, ...Object.entries(one.condition).map(([k, v]) => `${k}=${v}`)].join(", ");
      make(list, "li", {}, `${one.method} cannot run on ${where}: ${one.reasons.join(" ")}`);
    }
  }

  // Everything ----------------------------------------------------------------------------------------

  function draw() {
    hide();
    for (const step of [drawTable, drawSweep, drawCurves, drawGains, drawHeat, drawMatrix, drawRanks, drawEpsilon, drawBytes, drawPartition]) step();
  }
  const controls = one("controls");
  if (D.blocks.length > 1) select(controls, "on", D.blocks.map((b, i) => [i, blockName(b)]), 0, (i) => { state.block = +i; draw(); });
  if (D.metrics.length > 1) segments(controls, "accuracy", D.metrics.map((m) => [m, m]), state.metric, (m) => { state.metric = m; draw(); });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (theme) => { document.documentElement.dataset.theme = theme; draw(); };
  setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  // On paper it is light, also what is painted.
  let before = null;
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; setTheme("light"); });
  addEventListener("afterprint", () => setTheme(before));
  one("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  drawTuning(); drawPrivacy(); drawProblems();
})();
