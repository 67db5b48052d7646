// What an audit's attacks found: their ROC curves, on linear and on logarithmic axes, and their bounds.

const attackLines = (names) => new Map(names.map((name, i) => [name, i % 4]));

function drawAttacks() {
  const audit = D.audit;
  if (!audit) { fill("attacks"); return; }
  const names = Object.keys(audit.roc), looks = attackLines(names), least = 1 / audit.outside;
  const body = fill("attacks", `${audit.verdict} Records with made-up labels were planted into the data of client ${audit.client} by the toss of a coin; ` +
    `an attack is good where it finds members (up) without taking others for members (left). The verdict is that of ${audit.decides}, which was fixed beforehand.`);
  const pair = make(body, "div", { class: "panels" });
  const panels = [false, true].map((log) => [log, make(pair, "div")]); // both first: they share the width
  for (const [log, panel] of panels) {
    make(panel, "h3", {}, log ? "Few false alarms (logarithmic)" : "All false alarms");
    figure(panel, log ? "roc-log" : "roc", `ROC curves of attacks, ${log ? "logarithmic" : "linear"} axes`, (svg, W) => {
      const H = 320, left = 52, right = 12, top = 26, bottom = 42, at = log ? (v) => Math.log10(Math.max(v, least)) : (v) => v;
      const X = linear(at(log ? least : 0), at(1), left, W - right), Y = linear(at(log ? least : 0), at(1), H - bottom, top);
      const marks = log ? ticks(Math.ceil(Math.log10(least)), 0, 4).filter((v) => v % 1 === 0).map((v) => 10 ** v) : ticks(0, 1, 5);
      for (const v of marks) {
        make(svg, "line", { class: "grid", x1: left, x2: W - right, y1: Y(at(v)), y2: Y(at(v)) });
        make(svg, "text", { x: left - 8, y: Y(at(v)) + 4, "text-anchor": "end" }, +v.toPrecision(3));
        make(svg, "text", { x: X(at(v)), y: H - bottom + 18, "text-anchor": "middle" }, +v.toPrecision(3));
      }
      make(svg, "text", { x: 0, y: 11 }, "members found");
      make(svg, "text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }, "others taken for members");
      make(svg, "line", { class: "axis", x1: X(at(log ? least : 0)), y1: Y(at(log ? least : 0)), x2: X(at(1)), y2: Y(at(1)) });
      for (const name of names) {
        const { fpr, tpr } = audit.roc[name], { colour, dash } = lookOf(looks, name), points = [];
        fpr.forEach((x, i) => { // steps: first along, then up
          if (i) points.push(`${X(at(x)).toFixed(1)},${Y(at(tpr[i - 1])).toFixed(1)}`);
          points.push(`${X(at(x)).toFixed(1)},${Y(at(tpr[i])).toFixed(1)}`);
        });
        telling(make(svg, "polyline", { class: "line", points: points.join(" "), stroke: colour, "stroke-dasharray": dash }), `${name}: area ${audit.attacks[name].auc.toFixed(3)}`);
      }
      return H;
    }, () => [["attack", "false positive rate", "true positive rate"], ...names.flatMap((name) => audit.roc[name].fpr.map((x, i) => [name, x, audit.roc[name].tpr[i]]))]);
  }
  const bar = make(body, "div", { class: "legend" });
  for (const name of names) { const item = make(bar, "span"); key(item, lookOf(looks, name)); item.append(name); }
  const rows = names.map((name) => ({ name, ...audit.attacks[name] })), figureOf = (v, digits) => (missing(v) ? "–" : v.toFixed(digits));
  const column = (name, field, digits) => ({ name, value: (r) => r[field], text: (r) => figureOf(r[field], digits) });
  table(body, "attacks", [
    { name: "attack", value: (r) => r.name, left: true }, column("area under the curve", "auc", 3), column("found at 1 % false alarms", "tpr_at_1_percent_fpr", 3),
    column("ε at least, Gaussian curve", "curve_epsilon_at_least", 2), column("could have shown", "curve_ceiling", 2),
    column("ε at least, whatever the curve", "epsilon_at_least", 2), column("could have shown ", "ceiling", 2),
  ], rows);
}
