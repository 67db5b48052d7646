// Pictures of many cells: heat maps, weights between clients, confusion, who holds what.

const unpack = (packed) => Uint8Array.from(atob(packed), (sign) => sign.charCodeAt(0));

// Cells as an image of one pixel each, which is stretched.
function cells(bytes, rows, columns, low, high) {
  const stops = ["--low", "--mid", "--high"].map(rgb), canvas = make(null, "canvas");
  canvas.width = columns;
  canvas.height = rows;
  const paint = canvas.getContext("2d"), image = paint.createImageData(columns, rows);
  bytes.forEach((v, i) => {
    if (v === 255) return;
    const t = 2 * Math.max(0, Math.min(1, (v - low) / (high - low || 1))), k = Math.min(1, Math.floor(t));
    stops[k].forEach((c, j) => { image.data[4 * i + j] = Math.round(c + (stops[k + 1][j] - c) * (t - k)); });
    image.data[4 * i + 3] = 255;
  });
  paint.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

// Draws rows x columns of bytes, 0 to 250 (what `told` says, else 0 to 100 %) and 255 for nothing, with names on both axes. A name
// is a list of ways to write it, the longest first. Arrow keys walk over cells.
function field(parent, bar, file, label, { bytes, rows, columns, down, across, name, range, told = inHundred, square = false }) {
  const n = rows.length, m = columns.length, known = bytes.filter((v) => v !== 255);
  const [low, high] = range || [known.reduce((a, b) => Math.min(a, b), 250), known.reduce((a, b) => Math.max(a, b), 0)];
  scale(bar, low, high, told);
  const box = {};
  const svg = figure(parent, file, label, (into, W) => {
    const widest = (i) => Math.max(...rows.map((row) => row[Math.min(i, row.length - 1)].length)) * 6.4;
    const way = [0, 1, 2].find((i) => widest(i) < W * 0.3) ?? 2, left = Math.min(W * 0.4, Math.max(34, widest(way) + 22));
    const most = Math.max(...columns.map((c) => c[0].length)) * 6.4, right = 8, top = 24;
    const wide = Math.max(0.5, Math.min(square ? 34 : 56, (W - left - right) / m)), tall = square ? wide : Math.max(3, Math.min(22, 520 / n));
    const upright = columns.some((c) => c[0].length > 3) && wide < most + 6, foot = upright ? Math.min(110, most + 8) : 20;
    Object.assign(box, { left, top, wide, tall });
    make(into, "image", { x: left, y: top, width: wide * m, height: tall * n, href: cells(bytes, n, m, low, high), preserveAspectRatio: "none", class: "cells" });
    const everyRow = Math.ceil(13 / tall), everyColumn = Math.ceil((upright ? 14 : Math.max(24, most + 6)) / wide);
    rows.forEach((row, r) => {
      if (r % everyRow) return;
      const said = make(into, "text", { x: left - 8, y: top + tall * (r + 0.5) + 4, "text-anchor": "end" }, shorten(row[Math.min(way, row.length - 1)], Math.floor((left - 16) / 6)));
      make(said, "title", {}, row[0]);
    });
    const base = top + tall * n;
    columns.forEach((column, c) => {
      if (c % everyColumn) return;
      const x = left + wide * (c + 0.5), words = shorten(column[0], 16);
      if (upright) make(into, "text", { x: x + 4, y: base + 8, "text-anchor": "end", transform: `rotate(-90 ${x + 4} ${base + 8})` }, words);
      else make(into, "text", { x, y: base + 15, "text-anchor": "middle" }, words);
    });
    make(into, "text", { class: "strong", x: left - 8, y: 14, "text-anchor": "end" }, down);
    make(into, "text", { class: "strong", x: left, y: base + foot + 14 }, across);
    make(into, "rect", { x: left, y: top, width: wide * m, height: tall * n, fill: "transparent", "data-hit": "" });
    return base + foot + 22;
  }, () => [[down, across, told === inHundred || SHARE ? "%" : FIGURE], ...rows.flatMap((row, r) => columns.map((c, k) => [row[0], c[0], bytes[r * m + k] === 255 ? "" : parseFloat(told(bytes[r * m + k], 1))]))], { tabindex: 0 });
  let at = [0, 0];
  const area = svg.getBoundingClientRect.bind(svg), ratio = () => area().width / Number(svg.getAttribute("viewBox").split(" ")[2]);
  const tell = (event) => { const v = bytes[at[0] * m + at[1]]; show(event, name(at[0], at[1]) + ": " + (v === 255 ? "not measured" : told(v))); };
  const keep = (v, most) => Math.max(0, Math.min(most - 1, v));
  svg.onmousemove = (event) => {
    const x = (event.clientX - area().left) / ratio() - box.left, y = (event.clientY - area().top) / ratio() - box.top;
    if (x < 0 || y < 0 || x > box.wide * m || y > box.tall * n) { hide(); return; }
    at = [keep(Math.floor(y / box.tall), n), keep(Math.floor(x / box.wide), m)];
    tell(event);
  };
  svg.onkeydown = (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    at = [keep(at[0] + step[0], n), keep(at[1] + step[1], m)];
    tell({ clientX: area().left + (box.left + (at[1] + 0.5) * box.wide) * ratio(), clientY: area().top + (box.top + at[0] * box.tall) * ratio() });
  };
  svg.onmouseleave = svg.onblur = hide;
  return svg;
}

const inHundred = (v, digits = 0) => percent(v / 250, digits) + " %";
const inUnit = (value, digits) => (SHARE ? percent(value, digits) + " %" : level(value, 3));

function scale(parent, low, high, told) {
  parent.querySelectorAll(".scale").forEach((old) => old.remove());
  const line = make(parent, "span", { class: "scale" });
  make(line, "span", {}, told(low));
  make(line, "i");
  make(line, "span", {}, told(high));
}

function drawMatrix() {
  const runs = runsHere((run) => run.matrices);
  if (!runs.length) { fill("matrix"); return; }
  const body = fill("matrix", "Row: the client that learns. Column: whose knowledge it takes. A row adds up to 100 %.");
  const bar = make(body, "div", { class: "row" });
  const run = pickRun(bar, runs, state.matrix, drawMatrix, false), who = parties(run);
  const frames = run.matrices, control = make(bar, "label", { class: "control" });
  const said = make(control, "span"), slider = make(control, "input", { type: "range", min: 0, max: frames.length - 1, step: 1 });
  slider.value = frames.length - 1;
  const holder = make(body, "div");
  slider.oninput = () => {
    const frame = frames[+slider.value], bytes = unpack(frame.weights), n = frame.clients.length, clients = frame.clients.map(who);
    said.textContent = `round ${frame.round}`;
    slider.setAttribute("aria-valuetext", `round ${frame.round}`);
    holder.textContent = "";
    const own = frame.clients.reduce((sum, _, k) => sum + bytes[k * n + k], 0) / n / 250;
    make(holder, "p", { class: "note" }, `On average a client keeps ${percent(own, 0)} % of its own knowledge in this round.`);
    field(holder, bar, "weights", `Weights between ${n} clients in round ${frame.round}`, {
      bytes, rows: clients.map((c) => [c.full, c.brief, c.name]), columns: clients.map((c) => [c.name]), down: "learns", across: "takes from", square: true,
      name: (r, c) => `client ${clients[r].name} takes from ${clients[c].name}`, range: [0, bytes.reduce((a, b) => Math.max(a, b), 1)],
    });
  };
  slider.oninput();
}

function drawConfusion() {
  const runs = runsHere((run) => run.confusion);
  if (!runs.length) { fill("confusion"); return; }
  const bar = make(null, "div", { class: "row" }), run = pickRun(bar, runs, state.confusion, drawConfusion, false);
  const { classes, counts, clients, rows: kind } = run.confusion, k = classes.length;
  const sums = counts.map((row) => row.reduce((a, b) => a + b, 0)), bytes = new Uint8Array(k * k).fill(255);
  counts.forEach((row, i) => row.forEach((v, j) => { if (sums[i]) bytes[i * k + j] = Math.round((250 * v) / sums[i]); }));
  const wrong = counts.flatMap((row, i) => row.map((v, j) => [v / (sums[i] || 1), i, j])).filter(([, i, j]) => i !== j).sort((a, b) => b[0] - a[0])[0];
  const body = fill("confusion", `What the clients' models say after the last round (a column) of the rows of each class (a row), on ${kind === "global" ? "the common test rows" : "their own test rows"}, ${plural(clients, "client")} together. A row adds up to 100 %.` +
    (wrong && wrong[0] > 0 ? ` Most often confused: ${classes[wrong[1]]} is called ${classes[wrong[2]]} in ${percent(wrong[0], 0)} % of its rows.` : ""));
  body.append(bar);
  field(body, bar, "confusion", "Confusion of classes", {
    bytes, rows: classes.map((c) => [c]), columns: classes.map((c) => [c]), down: "class", across: "predicted", square: true, range: [0, 250],
    name: (r, c) => `${classes[r]} called ${classes[c]}, ${counts[r][c]} of ${sums[r]}`,
  });
}

function drawPartition() {
  const parts = D.parties.filter((p) => p.block === state.block && p.clients);
  if (!parts.length) { fill("partition"); return; }
  const { transfer, grouped = "class" } = parts[0];
  const body = fill("partition", `Training rows of each ${grouped} (a row) at each client (a column): the area of a dot is their number.` +
    (transfer ? ` Common to all: ${transfer.rows} unlabelled transfer rows.` : ""));
  const bar = make(body, "div", { class: "row" }), holder = make(body, "div");
  const draw = (part) => {
    holder.textContent = "";
    const n = part.clients.length, count = part.classes, classes = part.labels || Array.from({ length: count }, (_, y) => String(y));
    const told = () => [["client", "site", "model", grouped, "rows"], ...part.clients.flatMap((c) => c.rows.map((v, y) => [c.client, c.domain, c.model, classes[y], v]))];
    if (n > 60 || count > 40) {
      const high = Math.max(...part.clients.flatMap((c) => c.rows)), bytes = new Uint8Array(n * count);
      part.clients.forEach((c, k) => c.rows.forEach((v, y) => { bytes[y * n + k] = Math.round((250 * v) / high); }));
      field(holder, bar, "partition", `Rows of each ${grouped} and client`, {
        bytes, rows: classes.map((c) => [c]), columns: part.clients.map((c) => [String(c.client)]), down: grouped, across: "client", range: [0, 250],
        name: (r, c) => `${grouped} ${classes[r]}, client ${part.clients[c].client}: ${part.clients[c].rows[r]} rows, of the largest`,
      });
      return;
    }
    figure(holder, "partition", `Rows of each ${grouped} and client`, (svg, W) => dots(svg, W, part, classes), told);
  };
  if (parts.length > 1) select(bar, "seed", parts.map((p, i) => [i, p.seed]), 0, (i) => draw(parts[+i]));
  draw(parts[0]);
}

function dots(svg, W, part, classes) {
  const n = part.clients.length, left = Math.min(W * 0.3, Math.max(46, Math.max(...classes.map((c) => c.length)) * 6.4 + 24));
  const step = Math.min(56, (W - left - 12) / n), tall = Math.min(26, 420 / classes.length), base = 34 + classes.length * tall;
  const largest = Math.max(...part.clients.flatMap((c) => c.rows)), most = Math.min(step, tall) * 0.48, every = Math.ceil(26 / step);
  classes.forEach((label, y) => {
    make(svg, "line", { class: "grid", x1: left - 6, x2: left + n * step, y1: 34 + tall * (y + 0.5), y2: 34 + tall * (y + 0.5) });
    make(make(svg, "text", { x: left - 12, y: 38 + tall * (y + 0.5), "text-anchor": "end" }, shorten(label, Math.floor((left - 14) / 6))), "title", {}, label);
  });
  make(svg, "text", { class: "strong", x: left - 12, y: 22, "text-anchor": "end" }, "rows");
  const models = new Set(part.clients.map((c) => c.model)).size > 1 && part.clients.every((c) => c.model.length * 6.4 < step * every);
  part.clients.forEach((client, k) => {
    const x = left + step * (k + 0.5), total = client.rows.reduce((a, b) => a + b, 0), name = client.domain && client.domain.length * 6.4 < step ? client.domain : client.client;
    if (k % every === 0) {
      make(svg, "text", { x, y: 22, "text-anchor": "middle" }, total);
      make(svg, "text", { x, y: base + 16, "text-anchor": "middle" }, shorten(String(name), Math.max(2, Math.floor((step * every) / 6.4))));
      if (models) make(svg, "text", { x, y: base + 31, "text-anchor": "middle" }, client.model);
    }
    client.rows.forEach((count, y) => {
      if (!count) return;
      const dot = make(svg, "circle", { cx: x, cy: 34 + tall * (y + 0.5), r: Math.max(0.8, most * Math.sqrt(count / largest)), fill: "var(--accent)" });
      telling(dot, `client ${client.client}${client.domain ? ` (${client.domain})` : ""}, ${client.model}\n${count} rows of ${part.grouped || "class"} ${classes[y]}, ${total} in all`);
    });
  });
  const foot = base + (models ? 50 : 36);
  make(svg, "text", { class: "strong", x: left, y: foot }, models ? "client and its model" : "client");
  return foot + 8;
}
