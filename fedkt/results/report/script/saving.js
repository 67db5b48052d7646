// What the buttons save: text of tables, and figures 3.5 inches wide.

const text = (content, kind) => new Blob([content], { type: kind + ";charset=utf-8" });

function toCsv(rows) {
  const cell = (value) => {
    const said = String(value ?? "");
    return /[",\n]/.test(said) ? `"${said.replace(/"/g, '""')}"` : said;
  };
  return text(rows.map((row) => row.map(cell).join(",") + "\n").join(""), "text/csv");
}

function toMarkdown([head, ...rows]) {
  const line = (cells) => "| " + cells.map((c) => c.replace(/[\\|*`<$]/g, "\\$&").replace(/\n/g, " ")).join(" | ") + " |\n";
  return text(line(head) + "|" + "---|".repeat(head.length) + "\n" + rows.map(line).join(""), "text/markdown");
}

// For the packages booktabs and graphicx: as wide as a column, however many columns it has itself.
function toLatex([head, ...rows], lefts) {
  const signs = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "−": "$-$", "–": "--",
    "<": "$<$", ">": "$>$", "|": "$|$", "ε": "$\\varepsilon$", "δ": "$\\delta$", "α": "$\\alpha$", "·": "$\\cdot$", "…": "\\dots{}" };
  const safe = (cell) => cell.replace(/\n/g, " ").replace(/[\\~^±−–<>|εδα·…]|[_&#%${}]/g, (sign) => signs[sign] || "\\" + sign);
  const line = (cells) => "  " + cells.map(safe).join(" & ") + " \\\\\n";
  const columns = lefts.map((left) => (left ? "l" : "r")).join("");
  return text(`\\resizebox{\\columnwidth}{!}{%\n\\begin{tabular}{${columns}}\n  \\toprule\n${line(head)}  \\midrule\n` +
    `${rows.map(line).join("")}  \\bottomrule\n\\end{tabular}}\n`, "application/x-tex");
}

// Puts into a figure itself what the page's style says of it, so that it looks the same elsewhere.
function plainly(svg) {
  const kept = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "font-size", "font-weight", "visibility"];
  for (const element of [svg, ...svg.querySelectorAll("*")]) {
    const style = getComputedStyle(element), found = kept.map((name) => [name, style.getPropertyValue(name)]);
    if (element.tagName === "image") element.setAttribute("style", "image-rendering:pixelated");
    else {
      element.removeAttribute("style");
      for (const [name, value] of found) if (value && value !== "none" || name === "fill") element.setAttribute(name, value);
    }
    element.removeAttribute("class");
    element.removeAttribute("tabindex");
  }
  svg.querySelectorAll("[data-hit], [visibility=hidden]").forEach((element) => element.remove());
  const [, , W, H] = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.setAttribute("xmlns", SVG);
  svg.setAttribute("font-family", "Helvetica, Arial, 'Liberation Sans', sans-serif");
  svg.setAttribute("width", "3.5in");
  svg.setAttribute("height", `${((3.5 * H) / W).toFixed(4)}in`);
  return svg;
}

const written = (svg) => new XMLSerializer().serializeToString(svg);
const toSvg = (svg) => text(written(svg), "image/svg+xml");

// Paints a figure in the 600 dots per inch that printers have.
function painted(svg) {
  const [, , W, H] = svg.getAttribute("viewBox").split(" ").map(Number), wide = 2100;
  const source = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(written(svg));
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => {
      const canvas = make(null, "canvas"), paint = canvas.getContext("2d");
      canvas.width = wide;
      canvas.height = Math.round((wide * H) / W);
      paint.fillStyle = "#fff";
      paint.fillRect(0, 0, canvas.width, canvas.height);
      paint.drawImage(image, 0, 0, canvas.width, canvas.height);
      done(canvas);
    };
    image.onerror = () => failed(new Error("the figure cannot be painted"));
    image.src = source;
  });
}
const toPng = (svg) => painted(svg).then((canvas) => new Promise((done) => canvas.toBlob(done, "image/png")));
