// A figure as a PDF of one page: lines stay lines and text stays text.

const POINTS = 252; // 3.5 inches
const BEYOND = { "−": 0x96, "–": 0x96, "—": 0x97, "…": 0x85, "’": 0x92, "•": 0x95, "€": 0x80 };
const GREEK = { ε: "e", δ: "d", α: "a", Δ: "D" };

// Bytes of a text by font: Helvetica as Windows encodes it, and Symbol for Greek; null where neither has a sign.
function encoded(said) {
  const parts = [];
  for (const sign of said) {
    const greek = GREEK[sign], code = BEYOND[sign] ?? sign.codePointAt(0);
    if (!greek && (code > 255 || (code > 126 && code < 160 && !BEYOND[sign]))) return null;
    const last = parts[parts.length - 1], byte = greek || String.fromCharCode(code);
    if (last && last.greek === Boolean(greek)) { last.bytes += byte; last.said += sign; }
    else parts.push({ greek: Boolean(greek), bytes: byte, said: sign });
  }
  return parts;
}

async function toPdf(svg) {
  const [, , W, H] = svg.getAttribute("viewBox").split(" ").map(Number), scale = POINTS / W;
  const texts = [...svg.querySelectorAll("text")].map((t) => t.firstChild?.textContent || "");
  const page = texts.every(encoded) ? await drawing(svg, H, scale) : await photograph(svg, H, scale);
  return assembled(page, POINTS, H * scale);
}

// A figure with signs that PDF's own fonts lack is painted.
async function photograph(svg, H, scale) {
  const canvas = await painted(svg), jpeg = atob(canvas.toDataURL("image/jpeg", 0.95).split(",")[1]);
  const image = { wide: canvas.width, high: canvas.height, bytes: jpeg, filter: "/Filter /DCTDecode " };
  return { content: `q ${POINTS} 0 0 ${(H * scale).toFixed(3)} 0 0 cm /I0 Do Q\n`, images: [image], shades: [] };
}

async function drawing(svg, H, scale) {
  const out = [], images = [], shades = [];
  const x = (v) => (v * scale).toFixed(3), y = (v) => ((H - v) * scale).toFixed(3);
  const of = (element, name) => Number(element.getAttribute(name) || 0);
  const pencil = make(null, "canvas").getContext("2d");
  for (const element of svg.querySelectorAll("line, polyline, polygon, circle, rect, text, image")) {
    const paint = (name) => {
      const found = element.closest(`[${name}]`)?.getAttribute(name) || "none", rgb = found.match(/[\d.]+/g);
      return found === "none" || !rgb || rgb[3] === "0" ? null : rgb.slice(0, 3).map((v) => (v / 255).toFixed(3)).join(" ");
    };
    let shade = 1;
    for (let at = element; at && at !== svg; at = at.parentNode) shade *= Number(at.getAttribute("opacity") || 1);
    if (!shades.includes(shade)) shades.push(shade);
    const fill = paint("fill"), stroke = paint("stroke");
    out.push(`q /G${shades.indexOf(shade)} gs`);
    if (fill) out.push(`${fill} rg`);
    if (stroke) {
      const dash = (element.getAttribute("stroke-dasharray") || "").match(/[\d.]+/g) || [];
      const cap = { round: 1, square: 2 }[element.getAttribute("stroke-linecap")] || 0;
      out.push(`${stroke} RG ${x(parseFloat(element.getAttribute("stroke-width") || 1))} w ${cap} J 1 j [${dash.map(x).join(" ")}] 0 d`);
    }
    const end = fill && stroke ? "B" : fill ? "f" : stroke ? "S" : "n", kind = element.tagName;
    if (kind === "line") out.push(`${x(of(element, "x1"))} ${y(of(element, "y1"))} m ${x(of(element, "x2"))} ${y(of(element, "y2"))} l ${stroke ? "S" : "n"}`);
    if (kind === "polyline" || kind === "polygon") {
      const points = element.getAttribute("points").trim().split(/\s+/).map((p) => p.split(",").map(Number));
      out.push(points.map(([a, b], i) => `${x(a)} ${y(b)} ${i ? "l" : "m"}`).join(" ") + (kind === "polygon" ? " h " : " ") + end);
    }
    if (kind === "rect") out.push(`${x(of(element, "x"))} ${y(of(element, "y") + of(element, "height"))} ${x(of(element, "width"))} ${x(of(element, "height"))} re ${end}`);
    if (kind === "circle") {
      const [a, b, r] = ["cx", "cy", "r"].map((name) => of(element, name)), k = 0.5523 * r;
      const curve = (...points) => points.map(([p, q]) => `${x(p)} ${y(q)}`).join(" ") + " c";
      out.push(`${x(a + r)} ${y(b)} m`, curve([a + r, b + k], [a + k, b + r], [a, b + r]), curve([a - k, b + r], [a - r, b + k], [a - r, b]),
        curve([a - r, b - k], [a - k, b - r], [a, b - r]), curve([a + k, b - r], [a + r, b - k], [a + r, b]), end);
    }
    if (kind === "text") {
      const size = parseFloat(element.getAttribute("font-size")), bold = Number(element.getAttribute("font-weight")) >= 600;
      const parts = encoded(element.firstChild?.textContent || "");
      pencil.font = `${bold ? "bold " : ""}100px Helvetica, Arial, "Liberation Sans", sans-serif`;
      const long = parts.reduce((sum, p) => sum + (pencil.measureText(p.said).width * size) / 100, 0);
      const turn = ((element.getAttribute("transform") || "").match(/rotate\((-?[\d.]+)/) || [0, 0])[1] * (-Math.PI / 180);
      const back = { end: 1, middle: 0.5 }[element.getAttribute("text-anchor")] || 0;
      const [c, s] = [Math.cos(turn), Math.sin(turn)].map((v) => v.toFixed(5));
      const left = of(element, "x") - back * long * c, base = of(element, "y") + back * long * s;
      const font = (p) => (p.greek ? "F3" : bold ? "F2" : "F1"), escaped = (bytes) => bytes.replace(/[\\()]/g, "\\$&");
      out.push(`BT ${c} ${s} ${-s} ${c} ${x(left)} ${y(base)} Tm ` + parts.map((p) => `/${font(p)} ${x(size)} Tf (${escaped(p.bytes)}) Tj`).join(" ") + " ET");
    }
    if (kind === "image") {
      out.push(`${x(of(element, "width"))} 0 0 ${x(of(element, "height"))} ${x(of(element, "x"))} ${y(of(element, "y") + of(element, "height"))} cm /I${images.length} Do`);
      images.push(await pixels(element.getAttribute("href")));
    }
    out.push("Q");
  }
  return { content: out.join("\n") + "\n", images, shades };
}

async function pixels(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = make(null, "canvas"), paint = canvas.getContext("2d");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.drawImage(image, 0, 0);
  const { data } = paint.getImageData(0, 0, canvas.width, canvas.height);
  let bytes = "";
  for (let i = 0; i < data.length; i += 4) bytes += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
  return { wide: canvas.width, high: canvas.height, bytes, filter: "" };
}

function assembled({ content, images, shades }, wide, high) {
  const font = (name, more = "/Encoding /WinAnsiEncoding ") => `<< /Type /Font /Subtype /Type1 /BaseFont /${name} ${more}>>`;
  const stream = (about, bytes) => `<< ${about}/Length ${bytes.length} >>\nstream\n${bytes}\nendstream`;
  const first = 8, named = images.map((_, i) => `/I${i} ${first + i} 0 R`).join(" ");
  const states = shades.map((shade, i) => `/G${i} << /ca ${shade.toFixed(3)} /CA ${shade.toFixed(3)} >>`).join(" ");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${wide} ${high.toFixed(3)}] /Contents 4 0 R /Resources << ` +
      `/Font << /F1 5 0 R /F2 6 0 R /F3 7 0 R >> /ExtGState << ${states} >> /XObject << ${named} >> >> >>`,
    stream("", content),
    font("Helvetica"), font("Helvetica-Bold"), font("Symbol", ""),
    ...images.map((i) => stream(`/Type /XObject /Subtype /Image /Width ${i.wide} /Height ${i.high} /ColorSpace /DeviceRGB /BitsPerComponent 8 ${i.filter}`, i.bytes)),
  ];
  let file = "%PDF-1.4\n";
  const starts = objects.map((object, i) => {
    const at = file.length;
    file += `${i + 1} 0 obj\n${object}\nendobj\n`;
    return at;
  });
  const at = file.length, count = objects.length + 1;
  file += `xref\n0 ${count}\n0000000000 65535 f \n` + starts.map((v) => String(v).padStart(10, "0") + " 00000 n \n").join("");
  file += `trailer\n<< /Size ${count} /Root 1 0 R >>\nstartxref\n${at}\n%%EOF\n`;
  return new Blob([Uint8Array.from(file, (sign) => sign.charCodeAt(0))], { type: "application/pdf" });
}
