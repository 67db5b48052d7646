// The strategies in tables: all figures, each against each, across settings, how settings were chosen.

const withSpread = (r) => level(r.mean) + within(r.low, r.high);
const sure = (r) => (!missing(r.q) && r.q < 0.05 ? (r.difference > 0 ? "good" : "bad") : "");
function named(cell, label) {
  key(cell, look(indexOf(label)));
  cell.append(label);
}

function drawTable() {
  if (!D.tables[state.metric]) return;
  const rows = ofBlock(D.tables[state.metric]), many = rows.some((row) => row.seeds > 1), { budget, target } = rows[0] || {};
  const test = many
    ? `Whiskers and ± are 95 % intervals over seeds. q is the p-value of the paired t-test against ${D.baseline}, corrected for all tests of its kind in this report (Benjamini–Yekutieli).`
    : "One seed: there are no intervals and no tests.";
  const body = fill("table", test + " Click a heading to sort.");
  const ends = rows.flatMap((r) => [r.mean, r.low, r.high]).filter((v) => !missing(v));
  const low = Math.max(D.figure.lowest, Math.min(...ends)), high = Math.min(D.figure.highest, Math.max(...ends)), scale = linear(low, high, 8, 102);
  const share = (r) => (r.reached > 0 && r.reached < 1 ? [`${percent(r.reached, 0)} % of seeds`] : []);
  const seconds = (r) => number(r.to_target_seconds, 1) + give(r.to_target_seconds_half, 1, 1);
  const perMB = (r) => minus(number(r.per_megabyte, r.per_megabyte > 100 ? 0 : 1));
  const accuracy = `${state.metric} ${HEAD}`;
  table(body, "strategies", [
    { name: "strategy", value: (r) => r.method, cell: (td, r) => named(td, r.method), left: true },
    { name: accuracy, value: (r) => r.mean, text: withSpread },
    { name: "", value: (r) => r.mean, plot: true, cell: (td, r) => whisker(td, r, low, high, scale) },
    { name: (SIGN > 0 ? "against " : "gain over ") + D.baseline, value: (r) => r.difference, text: (r) => gained(r.difference) + within(r.low_difference, r.high_difference), look: sure, under: (r) => (missing(r.q) ? "" : `q ${significant(r.q)}`) },
    { name: "q", value: (r) => r.q, text: (r) => significant(r.q), apart: true },
    { name: "clients worse off, %", value: (r) => r.worse, text: (r) => percent(r.worse, 0) + give(r.worse_half, 0), },
    { name: "worst tenth" + (SHARE ? ", %" : ""), value: (r) => r.worst, text: (r) => level(r.worst) + around(r.worst_half) },
    { name: "MB per client", value: (r) => r.megabytes, text: (r) => number(r.megabytes, 3), under: (r) => (missing(r.per_megabyte) ? "" : `${perMB(r)} ${GAIN} per MB`) },
    { name: `${GAIN} per MB`, value: (r) => r.per_megabyte, text: perMB, apart: true },
    { name: `${SHARE ? "%" : FIGURE} at ${budget ? size(1e6 * budget) : "budget"}`, value: (r) => r.at_budget, text: (r) => level(r.at_budget) + around(r.at_budget_half) },
    { name: target ? `rounds to ${level(target)}${UNIT}` : "rounds to target", value: (r) => r.to_target_rounds, text: (r) => number(r.to_target_rounds, 1) + give(r.to_target_rounds_half, 1, 1), under: (r) => (missing(r.to_target_seconds) ? "" : [`${seconds(r)} s`, ...share(r)].join(", ")) },
    { name: "seconds to it", value: (r) => r.to_target_seconds, text: seconds, apart: true },
    { name: "rank", value: (r) => r.rank, text: (r) => number(r.rank, 1) },
  ], rows, { sorted: { by: accuracy, down: SIGN > 0 }, redraw: () => { drawTable(); return one("table"); }, bound: (r) => isBound(indexOf(r.method)) });
}

function whisker(cell, row, low, high, scale) {
  const colour = look(indexOf(row.method)).colour;
  const svg = make(cell, "svg", { viewBox: "0 0 110 26", role: "img", "aria-label": withSpread(row) + UNIT });
  make(svg, "line", { class: "grid", x1: 8, x2: 102, y1: 13, y2: 13 });
  if (!missing(row.low)) make(svg, "line", { x1: scale(Math.max(low, row.low)), x2: scale(Math.min(high, row.high)), y1: 13, y2: 13, stroke: colour, "stroke-width": 2, "stroke-linecap": "round" });
  if (!missing(row.mean)) make(svg, "circle", { cx: scale(row.mean), cy: 13, r: 5, fill: colour });
}

function drawPairs() {
  const pairs = ofBlock((D.pairs || {})[state.metric]), rows = ofBlock(D.tables[state.metric]).filter((r) => !missing(r.mean)).sort((a, b) => SIGN * (b.mean - a.mean));
  if (rows.length < 3 || !pairs.length) { fill("pairs"); return; }
  const many = pairs.some((p) => !missing(p.low));
  const body = fill("pairs", `${SHARE ? "Points of" : "Gain in"} ${state.metric} ${FIGURE} by which the strategy of a row is ahead of that of a column` + (many
    ? ", ± the 95 % interval of the paired difference over seeds; below it q, the p-value of the paired t-test corrected for all pairs of this report (Benjamini–Yekutieli). Coloured where q < 0.05."
    : "; one seed, so there are no intervals and no tests."));
  const found = (a, b) => {
    const pair = pairs.find((p) => p.method === a && p.against === b), back = pairs.find((p) => p.method === b && p.against === a);
    return pair || (back && { ...back, difference: -back.difference, low: missing(back.low) ? null : -back.high, high: missing(back.low) ? null : -back.low });
  };
  const said = (p) => (!p || missing(p.difference) ? "" : gained(p.difference) + within(p.low, p.high));
  const q = (p) => (!p || missing(p.q) ? "" : `q ${significant(p.q)}`);
  table(body, "pairs", [
    { name: "ahead of", value: (r) => r.method, cell: (td, r) => named(td, r.method), left: true },
    ...rows.map(({ method }) => ({
      name: method, always: true, value: (r) => [said(found(r.method, method)), q(found(r.method, method))].filter(Boolean).join(", "),
      text: (r) => said(found(r.method, method)), under: (r) => q(found(r.method, method)), look: (r) => sure(found(r.method, method) || {}),
    })),
  ], rows);
}

// Swept settings: the last one, or else the strategies, side by side.
function drawSweep() {
  const { scenario } = D.blocks[state.block], blocks = D.blocks.filter((b) => b.scenario === scenario && Object.keys(b.settings).length);
  if (blocks.length < 2 || !D.tables[state.metric]) { fill("sweep"); return; }
  const keys = Object.keys(blocks[0].settings), across = keys.length > 1 ? keys.pop() : null;
  const rowOf = (block) => keys.map((name) => block.settings[name]).join(", ");
  const body = fill("sweep", `Mean ${state.metric} ${FIGURE}${SHARE ? " in per cent" : ""}` + (D.seeds.length > 1 ? ", ± its 95 % interval over seeds" : "") + "; the best of a row is bold. All figures under one setting are in the table above.");
  if (across !== null && D.methods.length > 1) {
    if (state.swept === undefined) state.swept = Math.max(0, D.methods.findIndex((_, i) => !isBound(i)));
    select(make(body, "div", { class: "row" }), "strategy", D.methods.map((m, i) => [i, m.label]), state.swept, (i) => { state.swept = +i; drawSweep(); });
  }
  const heads = across === null ? D.methods.map((m) => m.label) : [...new Set(blocks.map((b) => b.settings[across]))];
  const rows = [...new Set(blocks.map(rowOf))].map((name) => ({
    name,
    found: heads.map((column) => {
      const block = blocks.find((b) => rowOf(b) === name && (across === null || b.settings[across] === column));
      const method = across === null ? column : D.methods[state.swept ?? 0].label;
      return block && D.tables[state.metric].find((r) => r.scenario === scenario && r.condition === block.condition && r.method === method);
    }),
  }));
  bestOfEach(body, "settings", keys.join(", "), heads.map((name) => (across === null ? name : `${across}=${name}`)), rows);
}

// A table of accuracies whose best of each row is bold.
function bestOfEach(parent, name, first, heads, rows) {
  const best = (row) => SIGN * Math.max(...row.found.filter((r) => r && !missing(r.mean) && !missing(r.rank)).map((r) => SIGN * r.mean));
  table(parent, name, [
    { name: first, value: (row) => row.name, left: true, always: true },
    ...heads.map((head, i) => ({
      name: head, always: true, value: (row) => row.found[i]?.mean, text: (row) => (row.found[i] ? withSpread(row.found[i]) : "–"),
      bold: (row) => row.found[i] && !missing(row.found[i].rank) && row.found[i].mean === best(row),
      look: (row) => (row.found[i] && missing(row.found[i].rank) ? "dim" : ""),
    })),
  ], rows);
}

function drawTuning() {
  if (!D.tuning.length) return;
  const body = fill("tuning", `Every strategy had the same settings to choose from. Chosen is what gave the best ${FIGURE} on validation rows, which are neither trained nor tested on; only those runs are compared above. ± is the 95 % interval over seeds.`);
  table(body, "tuning", [
    { name: "scenario", value: (r) => [r.scenario, r.condition].filter(Boolean).join(" · "), left: true },
    { name: "strategy", value: (r) => r.method, left: true },
    { name: "settings", value: (r) => r.tried, left: true },
    { name: `validation ${HEAD}`, value: (r) => r.validation, text: (r) => level(r.validation) + around(r.half) },
    { name: "seeds", value: (r) => r.seeds },
    { name: "chosen", value: (r) => (r.chosen ? "chosen" : ""), left: true },
  ], D.tuning);
}
