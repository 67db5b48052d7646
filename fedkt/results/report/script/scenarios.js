// Over several scenarios, and against what privacy costs.

function drawRanks() {
  const found = (D.ranks || {})[state.metric];
  if (!found) { fill("ranks"); return; }
  const body = fill("ranks", `Mean rank over ${found.blocks} scenarios and conditions, 1 is best. Strategies under one bar lie within the critical difference of ` +
    `${found.difference.toFixed(2)} ranks (Nemenyi, 5 %): they cannot be told apart. Friedman's test: p = ${significant(found.p)}.`);
  figure(body, "ranks", "Critical difference diagram", (svg, W) => {
    const narrow = isNarrow(W), left = narrow ? 104 : 200, right = left, k = found.methods.length, half = Math.ceil(k / 2), top = 56 + 14 * found.groups.length;
    const H = top + half * 24 + 20, X = linear(1, k, left, W - right);
    make(svg, "line", { class: "zero", x1: X(1), x2: X(k), y1: 40, y2: 40 });
    for (let i = 1; i <= k; i++) {
      make(svg, "line", { class: "zero", x1: X(i), x2: X(i), y1: 34, y2: 40 });
      make(svg, "text", { x: X(i), y: 28, "text-anchor": "middle" }, i);
    }
    found.groups.forEach(([a, b], i) => make(svg, "line", { class: "mid", x1: X(found.ranks[a]) - 5, x2: X(found.ranks[b]) + 5, y1: 54 + 14 * i, y2: 54 + 14 * i, "stroke-width": 5, "stroke-linecap": "round" }));
    found.methods.forEach((name, i) => {
      const before = i < half, level = before ? i : k - 1 - i, y = top + 16 + level * 24, x = X(found.ranks[i]), end = before ? left - 14 : W - right + 14, { colour, dash } = look(indexOf(name));
      make(svg, "polyline", { points: `${x},40 ${x},${y} ${end},${y}`, fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dash });
      make(svg, "text", { class: "strong", x: end + (before ? -6 : 6), y: y + 4, "text-anchor": before ? "end" : "start" }, `${shorten(name, narrow ? 8 : 22)}  ${found.ranks[i].toFixed(2)}`);
    });
    return H;
  }, () => [["strategy", "mean rank"], ...found.methods.map((name, i) => [name, found.ranks[i]])]);
  bestOfEach(body, "scenarios", "scenario", D.methods.map((m) => m.label), D.blocks.map((block) => ({
    name: blockName(block),
    found: D.methods.map((m) => D.tables[state.metric].find((r) => r.scenario === block.scenario && r.condition === block.condition && r.method === m.label)),
  })));
}

function drawEpsilon() {
  const { scenario } = D.blocks[state.block], rows = ((D.epsilon || {})[state.metric] || []).filter((r) => r.scenario === scenario);
  if (rows.length < 2) { fill("epsilon"); return; }
  const body = fill("epsilon", "ε is the largest over clients after the last round; smaller is more private. Grey: training alone, and pooling all data.");
  const bounds = (D.tables[state.metric] || []).filter((r) => r.scenario === scenario && !missing(r.mean) && ["local", "central"].includes(r.strategy));
  const values = [...rows.flatMap((r) => [r.mean, r.low, r.high]), ...bounds.map((r) => r.mean)].filter((v) => !missing(v));
  const [low, high] = endsOf(values), eps = rows.map((r) => r.epsilon).filter((v) => v > 0);
  figure(body, "epsilon", `${FIGURE} against epsilon`, (svg, W) => {
    const narrow = isNarrow(W), H = narrow ? 270 : 360, left = 46, right = narrow ? 98 : 190, top = 26, bottom = 42;
    const X = linear(Math.log10(Math.min(...eps)), Math.log10(Math.max(...eps)), left + 20, W - right - 20), Y = linear(low, high, H - bottom, top);
    horizontals(svg, low, high, Y, left, W - right, atAxis);
    make(svg, "text", { x: 0, y: 11 }, `${state.metric} ${FIGURE}`);
    for (const v of new Set(eps)) make(svg, "text", { x: X(Math.log10(v)), y: H - bottom + 18, "text-anchor": "middle" }, +v.toPrecision(3));
    make(svg, "text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }, "ε (logarithmic)");
    const labels = [];
    for (const bound of bounds) {
      const { dash } = look(indexOf(bound.method));
      make(svg, "line", { class: "bound", x1: left, x2: W - right, y1: Y(bound.mean), y2: Y(bound.mean), "stroke-dasharray": dash });
      if (!labels.some((l) => l.name === bound.method)) labels.push({ y: Y(bound.mean), name: bound.method, colour: "var(--bound)" });
    }
    for (const name of new Set(rows.map((r) => r.method))) {
      const points = rows.filter((r) => r.method === name && r.epsilon > 0 && !missing(r.mean)).sort((a, b) => a.epsilon - b.epsilon), { colour, dash } = look(indexOf(name));
      if (!points.length) continue;
      const at = (r) => X(Math.log10(r.epsilon));
      make(svg, "polyline", { class: "line", stroke: colour, "stroke-dasharray": dash, points: points.map((r) => `${at(r)},${Y(r.mean)}`).join(" ") });
      for (const r of points) {
        if (!missing(r.low)) make(svg, "line", { x1: at(r), x2: at(r), y1: Y(Math.max(low, r.low)), y2: Y(Math.min(high, r.high)), stroke: colour });
        telling(make(svg, "circle", { cx: at(r), cy: Y(r.mean), r: 5, fill: colour }), `${name}, ε = ${+r.epsilon.toPrecision(3)}: ${withSpread(r)}${UNIT}`);
      }
      labels.push({ y: Y(points[points.length - 1].mean), name, colour });
    }
    apart(labels, narrow ? 14 : 17, top, H - bottom);
    for (const label of labels) make(svg, "text", { x: W - right + (narrow ? 6 : 14), y: label.y + 4, style: `fill:${label.colour};font-weight:600` }, shorten(label.name, narrow ? 14 : 24));
    return H;
  }, () => [["strategy", "condition", "epsilon", "mean", "low", "high"], ...rows.map((r) => [r.method, r.condition, r.epsilon, r.mean, r.low, r.high])]);
}
