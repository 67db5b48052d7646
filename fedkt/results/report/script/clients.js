// Single clients: what each gained, how accurate it was in each round, and where a run ended for it.

function drawGains() {
  const groups = ofBlock((D.gains || {})[state.metric]).filter((g) => g.method !== "local");
  if (!groups.length) { fill("gains"); return; }
  const body = fill("gains", `Each dot is one client of one seed: by how much its ${FIGURE} is better than that of the same client trained alone${SHARE ? ", in points" : ""}. Left of the line it would have been better off alone; the bar is the median.`);
  const ordered = groups.map((g) => ({ ...g, mid: median(g.gain) })).sort((a, b) => b.mid - a.mid);
  const rows = () => [["strategy", "client", "seed", "gain"], ...ordered.flatMap((g) => g.gain.map((v, k) => [g.method, g.clients[k], g.seeds[k], v]))];
  figure(body, "gains", "Gain of every client against training alone", (svg, W) => {
    const narrow = isNarrow(W), left = narrow ? 90 : 210, right = narrow ? 74 : 150, step = 38, H = ordered.length * step + 48;
    const ends = ordered.flatMap((g) => g.gain);
    const least = SHARE ? 0.02 : 1e-9, low = Math.min(-least, ...ends), high = Math.max(least, ...ends), X = linear(low, high, left, W - right - 8);
    for (const v of ticks(low, high, narrow ? 4 : 8)) {
      make(svg, "line", { class: Math.abs(v) < 1e-9 ? "zero" : "grid", x1: X(v), x2: X(v), y1: 6, y2: H - 38 });
      make(svg, "text", { x: X(v), y: H - 20, "text-anchor": "middle" }, gained(v).replace(".0", ""));
    }
    make(svg, "text", { x: (left + W - right) / 2, y: H - 4, "text-anchor": "middle" }, `${GAIN}${SHARE ? " gained by" : " of"} the client`);
    ordered.forEach((group, i) => {
      const y = 6 + step * (i + 0.5), { worse } = ofBlock(D.tables[state.metric]).find((row) => row.method === group.method);
      make(make(svg, "text", { class: "strong", x: left - 14, y: y + 4, "text-anchor": "end" }, shorten(group.method, narrow ? 12 : 26)), "title", {}, group.method);
      const layer = make(svg, "g", { fill: look(indexOf(group.method)).colour, opacity: group.gain.length > 200 ? 0.3 : 0.55 });
      group.gain.forEach((v, k) => {
        const jitter = (((k * 0.61803) % 1) - 0.5) * step * 0.55; // the golden ratio spreads neighbours apart
        const dot = make(layer, "circle", { cx: X(v).toFixed(1), cy: (y + jitter).toFixed(1), r: narrow ? 2.6 : 3.2 });
        telling(dot, `${group.method}, client ${group.clients[k]}, seed ${group.seeds[k]}: ${gained(v)} ${SHARE ? "points" : "gained"}`);
      });
      make(svg, "line", { class: "mid", x1: X(group.mid), x2: X(group.mid), y1: y - 13, y2: y + 13 });
      make(svg, "text", { x: W - right + (narrow ? 4 : 16), y: y + 4 }, `${percent(worse, 0)} % ` + (narrow ? "worse" : "worse off"));
    });
    return H;
  }, rows);
}

// Who a client of a run is: its name, where it is, its model, its rows.
function parties(run) {
  const part = D.parties.find((p) => p.block === run.block && p.seed === run.seed && p.clients);
  const known = new Map((part ? part.clients : []).map((c) => [String(c.client), c]));
  return (name) => {
    const about = known.get(String(name)), total = about && about.rows.reduce((a, b) => a + b, 0);
    return { name: String(name), about, total, full: [name, about?.domain, about?.model, about && `${total} rows`].filter((v) => !missing(v)).join(" · "),
      brief: [name, about?.model, total].filter((v) => !missing(v)).join(" · ") };
  };
}

const runsHere = (wanted) => D.runs.filter((run) => run.block === state.block && wanted(run));
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
  if (!runs.length) { fill("heat"); return; }
  const body = fill("heat", `The ${state.metric} ${FIGURE} of each client (a row) after each round (a column). ${document.documentElement.dataset.theme === "dark" ? "Brighter" : "Darker"} is ${SIGN > 0 ? "better" : "worse"}; clients are in order of their last value, named with their model and their training rows.`);
  const bar = make(body, "div", { class: "row" });
  const run = pickRun(bar, runs, state.run, drawHeat, true), who = parties(run);
  const raw = unpack(run.heat[state.metric]), columns = run.rounds.length, rows = run.clients.length;
  const order = run.clients.map((_, k) => k).sort((a, b) => SIGN * (raw[b * columns + columns - 1] - raw[a * columns + columns - 1]));
  const bytes = new Uint8Array(raw.length);
  order.forEach((k, r) => bytes.set(raw.subarray(k * columns, (k + 1) * columns), r * columns));
  const clients = order.map((k) => who(run.clients[k]));
  field(body, bar, "clients", `${FIGURE} of ${plural(rows, "client")} over ${plural(columns, "round")}`, {
    bytes, rows: clients.map((c) => [c.full, c.brief, c.name]), columns: run.rounds.map((r) => [String(r)]), down: "client", across: "round",
    name: (r, c) => `client ${clients[r].full}, round ${run.rounds[c]}`, told: (v, digits = 0) => inUnit(D.figure.lowest + (v / 250) * (D.figure.highest - D.figure.lowest), digits),
  });
}

// Of a single run: every client where the run ended.
function drawClients() {
  if (!D.clients || !D.clients.length) { fill("clients"); return; }
  const run = D.runs[0], who = parties(run), rows = D.clients.map((c) => ({ ...c, who: who(c.client) }));
  const body = fill("clients", `Every client after its last round. Gained by the last teacher: by how much its ${FIGURE} was better after learning from it than before. Losses are means per row of its last round. Click a heading to sort.`);
  const points = (name, key) => ({ name, value: (r) => r[key], text: (r) => level(r[key]) });
  const loss = (name, key) => ({ name, value: (r) => r[key], text: (r) => (missing(r[key]) ? "–" : String(+r[key].toPrecision(3))) });
  table(body, "clients", [
    { name: "client", value: (r) => r.who.name, left: true },
    { name: "site", value: (r) => r.who.about?.domain, text: (r) => r.who.about?.domain ?? "–", left: true },
    { name: "model", value: (r) => r.who.about?.model, text: (r) => r.who.about?.model ?? "–", left: true },
    { name: "training rows", value: (r) => r.who.total },
    points(`personal ${HEAD}`, "personal"), points(`global ${HEAD}`, "global"), points(`validation ${HEAD}`, "validation"),
    ...(D.beside || []).map((one) => ({ name: one.share ? `${one.title}, %` : one.title, value: (r) => r[one.key], text: (r) => (missing(r[one.key]) ? "–" : one.share ? percent(r[one.key]) : String(+r[one.key].toPrecision(3))) })),
    { name: "gained by the last teacher", value: (r) => r.taught, text: (r) => gained(r.taught) },
    loss("training loss", "train"), loss("distillation loss", "distill"),
    { name: "ε", value: (r) => r.epsilon, text: (r) => (missing(r.epsilon) ? "–" : String(+r.epsilon.toPrecision(3))) },
    { name: "last reply", value: (r) => r.status, left: true },
  ], rows, { sorted: { by: "client", down: false }, redraw: () => { drawClients(); return one("clients"); } });
}
