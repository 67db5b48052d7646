// Figures and tables, each with buttons that save it; figures are drawn for the width that there is.

const COLUMN = 378; // pixels of a figure for a paper's column of 3.5 inches: its 12 pixels are 8 points there
const drawnFor = () => one("main").clientWidth - 2 * parseFloat(getComputedStyle(one("main")).paddingLeft);
const widthIn = (holder) => Math.round(Math.max(280, state.paper ? (state.paper * holder.clientWidth) / drawnFor() : holder.clientWidth));

// Draws a figure. `draw(svg, W)` fills an svg that is W wide and returns its height; `rows()` returns
// headings and lines of what it shows.
function figure(parent, name, label, draw, rows, keys = {}) {
  const holder = make(parent, "figure");
  const drawn = (into, W) => {
    const svg = make(into, "svg", { role: "img", "aria-label": label, ...keys });
    const H = draw(svg, W);
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    return svg;
  };
  const svg = drawn(holder, widthIn(holder));
  const atColumn = (use) => {
    // As it is printed: narrow, and dark on white.
    const { theme } = document.documentElement.dataset, muted = state.muted;
    const stage = make(document.body, "div", { style: `position:absolute;left:-9999px;width:${COLUMN}px` });
    document.documentElement.dataset.theme = "light";
    state.muted = new Set();
    try { return use(plainly(drawn(stage, COLUMN))); } finally {
      stage.remove();
      document.documentElement.dataset.theme = theme;
      state.muted = muted;
    }
  };
  const save = saving(holder, label);
  saveButton(save, name, "PNG", () => atColumn(toPng));
  saveButton(save, name, "SVG", () => atColumn(toSvg));
  saveButton(save, name, "PDF", () => atColumn(toPdf));
  if (rows) saveButton(save, name, "CSV", () => toCsv(rows()));
  return svg;
}

// Draws a table whose columns sort it. `columns`: { name, value(row), text(row), under(row), cell(td, row), left,
// look(row) }; what has no text shows its value; what is `apart` is saved only, as it stands under another.
function table(parent, name, columns, rows, { sorted = null, redraw = null, bound = null } = {}) {
  const kept = columns.filter((c) => !c.plot && (c.always || rows.some((row) => !missing(c.value(row)))));
  const shown = columns.filter((c) => !c.apart && (c.plot || kept.includes(c)));
  const told = (c, row) => String((c.text || c.value)(row) ?? "–");
  const sort = state.sort[name] || sorted;
  const wide = make(parent, "div", { class: "wide" });
  const element = make(wide, "table"), head = make(make(element, "thead"), "tr"), lines = make(element, "tbody");
  shown.forEach((column, i) => {
    const cell = make(head, "th", { scope: "col", class: column.left ? "left" : column.plot ? "plot" : null });
    if (!redraw || column.plot) { cell.textContent = column.plot ? "" : column.name; return; }
    const button = make(cell, "button", { type: "button" }, column.name);
    if (sort && sort.by === column.name) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    button.onclick = () => {
      state.sort[name] = { by: column.name, down: sort && sort.by === column.name ? !sort.down : !column.left };
      redraw().querySelectorAll("th")[i].querySelector("button").focus();
    };
  });
  const by = sort && shown.find((c) => c.name === sort.by && !c.plot);
  const ordered = !by ? rows : [...rows].sort((a, b) => {
    const [x, y] = [by.value(a), by.value(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y) * (sort.down ? -1 : 1);
  });
  for (const row of ordered) {
    const line = make(lines, "tr", { class: bound && bound(row) ? "bound" : null });
    for (const column of shown) {
      const cell = make(line, "td", { class: [column.left ? "left" : "", column.plot ? "plot" : "", column.look ? column.look(row) : ""].join(" ").trim() || null });
      if (column.cell) column.cell(cell, row); else cell.textContent = told(column, row);
      const under = column.under && column.under(row);
      if (under) make(cell, "small", {}, under);
      if (column.bold && column.bold(row)) cell.style.fontWeight = 700;
    }
  }
  const whole = (c, row) => [told(c, row), c.under && !kept.some((k) => k.apart) && c.under(row)].filter(Boolean).join(", ");
  const texts = () => [kept.map((c) => c.name), ...ordered.map((row) => kept.map((c) => whole(c, row)))];
  const save = saving(parent, name);
  saveButton(save, name, "CSV", () => toCsv([kept.map((c) => c.name), ...ordered.map((row) => kept.map((c) => c.value(row)))]));
  saveButton(save, name, "Markdown", () => toMarkdown(texts()));
  saveButton(save, name, "LaTeX", () => toLatex(texts(), kept.map((c) => Boolean(c.left))));
  return element;
}

function saving(parent, label) {
  const bar = make(parent, "div", { class: "save", role: "group", "aria-label": `Save: ${label}` });
  make(bar, "span", {}, "save as");
  return bar;
}

const ENDINGS = { Markdown: "md", LaTeX: "tex" };
function saveButton(parent, name, form, content) {
  const button = make(parent, "button", { type: "button" }, form);
  button.onclick = async () => {
    const stem = [blockName(D.blocks[state.block]), name].join("-").replace(/[^\p{L}\p{N}]+/gu, "-");
    const link = make(null, "a", { download: `${stem}.${ENDINGS[form] || form.toLowerCase()}` });
    link.href = URL.createObjectURL(await content());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
}
