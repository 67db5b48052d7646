// What was exchanged and promised, and the page as a whole.

function drawBytes() {
  const told = Object.assign({}, ...D.parties.filter((p) => p.block === state.block).map((p) => p.methods));
  const rows = Object.entries(told).filter(([, about]) => about.bytes && about.message).map(([method, about]) => ({
    ...about, label: D.methods[method].label, each: Math.max(1, about.clients * about.rounds), pooled: about.shares.includes("data"),
  }));
  if (!rows.length) { fill("bytes"); return; }
  const body = fill("bytes", "Encoded knowledge and row ids, without Flower's envelope, settings and metrics. The parts are those of one full message of the first client; the sums were counted over all replies.");
  const list = (arrays) => Object.entries(arrays).map(([name, count]) => `${name} ${size(count)}`).join(", ") || "nothing";
  const sum = (name, count) => ({ name, value: (r) => (r.pooled ? null : count(r)), text: (r) => (r.pooled ? "–" : size(count(r))) });
  table(body, "bytes", [
    { name: "strategy", value: (r) => r.label, left: true },
    { name: "shares", value: (r) => (r.pooled ? "all data" : r.shares.join(", ")), left: true },
    { name: "up consists of", value: (r) => (r.pooled ? "–" : list(r.message.up)), left: true },
    { name: "down consists of", value: (r) => (r.pooled ? "–" : list(r.message.down)), left: true },
    sum("up per client and round", (r) => r.bytes.up / r.each), sum("down per client and round", (r) => r.bytes.down / r.each),
    sum("in all", (r) => r.bytes.up + r.bytes.down),
  ], rows);
}

function drawPrivacy() {
  const told = new Map();
  for (const part of D.parties) for (const [method, about] of Object.entries(part.methods)) {
    if (!about.privacy) continue;
    const { statement, epsilon, delta } = about.privacy;
    const said = statement + (missing(epsilon) ? "" : ` ε = ${+epsilon.toPrecision(3)}` + (delta ? ` at δ = ${delta}` : "") + ".");
    if (!told.has(said)) told.set(said, new Set());
    told.get(said).add(D.methods[method].label);
  }
  if (!told.size) return;
  const body = fill("privacy", "");
  for (const [said, methods] of told) {
    const line = make(body, "p");
    if (told.size > 1) make(line, "strong", {}, [...methods].join(", ") + ": ");
    line.append(said);
  }
}

function drawProblems() {
  if (!D.problems.length && !D.impossible.length) return;
  const list = make(fill("problems", ""), "ul");
  for (const problem of D.problems) make(list, "li", {}, problem);
  for (const { scenario, condition, method, reasons } of D.impossible) {
    const where = [scenario, ...Object.entries(condition).map(([k, v]) => `${k}=${v}`)].join(", ");
    make(list, "li", {}, `${method} cannot run on ${where}: ${reasons.join(" ")}`);
  }
}

function draw() {
  hide();
  for (const step of [drawTable, drawPairs, drawSweep, drawClients, drawCurves, drawLosses, drawGains, drawHeat, drawMatrix, drawConfusion, drawRanks, drawEpsilon, drawBytes, drawPartition]) step();
}

const controls = one("controls");
if (D.blocks.length > 1) select(controls, "on", D.blocks.map((b, i) => [i, blockName(b)]), 0, (i) => { state.block = +i; draw(); });
if (D.metrics.length > 1) segments(controls, FIGURE, D.metrics.map((m) => [m, m]), state.metric, (m) => { state.metric = m; draw(); });
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (theme) => { document.documentElement.dataset.theme = theme; draw(); };
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
one("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

// On paper it is light and as wide as a page, also what is painted.
let before = null;
addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; state.paper = 680; setTheme("light"); });
addEventListener("afterprint", () => { state.paper = null; setTheme(before); });

let drawn = drawnFor(), waiting = null;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (drawnFor() !== drawn) { drawn = drawnFor(); draw(); } }, 120);
});
drawTuning(); drawPrivacy(); drawProblems();
