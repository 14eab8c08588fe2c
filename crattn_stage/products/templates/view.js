"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const MASKED = 1, NOT_SEARCHED = 2, LARGEST_SCALE = 48, BLINK_MILLISECONDS = 600;
const element = (id) => document.getElementById(id);
const canvas = element("canvas"), context = canvas.getContext("2d", { alpha: false });
// The view: the pixel at the centre of the canvas, 0 being the lower left corner of the first, and screen pixels per pixel.
const state = { detector: 0, pyramid: null, x: 0, y: 0, scale: 1, level: page.atThreshold, shown: true, chosen: -1, loading: 0 };
let blinking = 0, drawing = false;

// Bytes of a plane.
async function unpacked(number, which) {
  const text = atob(element(`plane-${number}-${which}`).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The same planes at half the size: the brightest of four pixels, so that no hit is lost.
function halved(full) {
  const width = Math.ceil(full.width / 2), height = Math.ceil(full.height / 2);
  const half = { width, height, size: full.size * 2 };
  for (const name of ["shade", "level", "flags"]) half[name] = new Uint8Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    const first = 2 * y * full.width, second = 2 * y + 1 < full.height ? first + full.width : first;
    for (let x = 0; x < width; x++, to++) {
      const left = 2 * x, right = left + 1 < full.width ? left + 1 : left;
      const a = first + left, b = first + right, c = second + left, d = second + right;
      const { shade, level, flags } = full;
      half.shade[to] = Math.max(shade[a], shade[b], shade[c], shade[d]);
      half.level[to] = Math.max(level[a], level[b], level[c], level[d]);
      half.flags[to] = ((flags[a] | flags[b] | flags[c] | flags[d]) & MASKED) | (flags[a] & flags[b] & flags[c] & flags[d] & NOT_SEARCHED);
    }
  }
  return half;
}

// Whether a pixel is masked at a level of the slider; at the threshold of the mask, that is the mask itself.
function masked(level, flags, at) {
  return level >= at || (at <= page.atThreshold && (flags & MASKED) !== 0);
}

function probability(level) {
  const clipped = Math.min(Math.max(page.threshold, page.limit), 1 - page.limit);
  const logit = Math.log(clipped / (1 - clipped)) + (level - page.atThreshold) * page.step;
  return level === page.atThreshold ? page.threshold : 1 / (1 + Math.exp(-logit));
}

async function open(number) {
  const detector = page.detectors[number], ticket = ++state.loading;
  element("under").textContent = "loading";
  const [shade, level, flags] = await Promise.all([0, 1, 2].map((which) => unpacked(number, which)));
  // Another detector may have been chosen meanwhile.
  if (ticket !== state.loading) return;
  state.pyramid = [{ width: detector.width, height: detector.height, size: 1, shade, level, flags }];
  while (Math.max(state.pyramid.at(-1).width, state.pyramid.at(-1).height) > 256) state.pyramid.push(halved(state.pyramid.at(-1)));
  state.detector = number;
  state.chosen = -1;
  list();
  fit();
  changed();
  element("under").textContent = "";
  document.body.dataset.ready = number;
}

function fit() {
  const detector = page.detectors[state.detector];
  state.x = detector.width / 2;
  state.y = detector.height / 2;
  state.scale = Math.min(canvas.clientWidth / detector.width, canvas.clientHeight / detector.height);
  draw();
}

function draw() {
  if (drawing || !state.pyramid) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; paint(); });
}

function paint() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const scale = state.scale * ratio;
  const plane = state.pyramid[Math.min(Math.max(0, Math.floor(Math.log2(1 / scale) + 0.01)), state.pyramid.length - 1)];
  const picture = context.createImageData(width, height), out = new Uint32Array(picture.data.buffer);
  const grey = greys(), columns = new Int32Array(width);
  for (let i = 0; i < width; i++) {
    const column = Math.floor((state.x + (i + 0.5 - width / 2) / scale) / plane.size);
    columns[i] = column >= 0 && column < plane.width && state.x + (i + 0.5 - width / 2) / scale < page.detectors[state.detector].width ? column : -1;
  }
  for (let j = 0, to = 0; j < height; j++) {
    // Rows count upwards, as they do in FITS.
    const y = state.y - (j + 0.5 - height / 2) / scale, row = Math.floor(y / plane.size);
    const outside = y < 0 || y >= page.detectors[state.detector].height, start = row * plane.width;
    for (let i = 0; i < width; i++, to++) {
      if (outside || columns[i] < 0) { out[to] = 0xff181410; continue; }
      const at = start + columns[i], shade = grey[plane.shade[at]];
      if (state.shown && masked(plane.level[at], plane.flags[at], state.level)) out[to] = 0xff2d2dff;
      else if (state.shown && plane.flags[at] & NOT_SEARCHED) out[to] = 0xff000000 | ((shade >> 1) + 90 << 16) | ((shade >> 1) + 30 << 8) | (shade >> 1);
      else out[to] = 0xff000000 | shade << 16 | shade << 8 | shade;
    }
  }
  context.putImageData(picture, 0, 0);
  const hit = page.detectors[state.detector].hits[state.chosen];
  if (hit) {
    const radius = Math.max(14 * ratio, (Math.sqrt(hit[2]) + 5) * scale);
    context.strokeStyle = "#ffd24a";
    context.lineWidth = 2 * ratio;
    context.strokeRect((hit[0] + 0.5 - state.x) * scale + width / 2 - radius, height / 2 - (hit[1] + 0.5 - state.y) * scale - radius, 2 * radius, 2 * radius);
  }
}

// The grey of each shade: from three sigma below the sky to a white point that the slider moves.
function greys() {
  const [low, high] = page.shades, white = low + (high - low) * (0.15 + 0.85 * (1 - element("white").value / 100));
  return Uint8Array.from({ length: 256 }, (_, i) => Math.max(0, Math.min(255, 255 * (i * (high - low)) / 255 / (white - low))));
}

function changed() {
  element("threshold").value = state.level;
  element("value").textContent = probability(state.level).toPrecision(3);
  element("reset").disabled = state.level === page.atThreshold;
  if (state.pyramid) {
    const { level, flags } = state.pyramid[0];
    let count = 0;
    for (let i = 0; i < level.length; i++) count += masked(level[i], flags[i], state.level) ? 1 : 0;
    const fraction = 100 * count / Math.max(1, page.detectors[state.detector].searched);
    element("count").textContent = `${count} pixels masked, ${fraction.toPrecision(3)}%`;
  }
  for (const row of element("hits").rows) row.classList.toggle("below", state.level > page.atThreshold && Number(row.dataset.level) < state.level);
  draw();
}

function list(column = 3, descending = true) {
  const { hits, x, y } = page.detectors[state.detector];
  const order = hits.map((_, i) => i).sort((a, b) => (hits[a][column] - hits[b][column]) * (descending ? -1 : 1));
  const body = element("hits");
  body.replaceChildren(...order.map((i) => {
    const hit = hits[i], row = document.createElement("tr");
    row.dataset.hit = i;
    row.dataset.level = hit[4];
    const cells = [(hit[0] + x).toFixed(1), (hit[1] + y).toFixed(1), hit[2], hit[3], hit[4] ? probability(hit[4]).toFixed(3) : ""];
    for (const text of cells) row.insertCell().textContent = text;
    return row;
  }));
  body.dataset.column = column;
  body.dataset.descending = descending;
}

function choose(number) {
  const hit = page.detectors[state.detector].hits[number];
  state.chosen = number;
  state.x = hit[0] + 0.5;
  state.y = hit[1] + 0.5;
  state.scale = Math.max(state.scale, 6);
  for (const row of element("hits").rows) row.classList.toggle("chosen", Number(row.dataset.hit) === number);
  draw();
}

function zoom(factor, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) {
  const detector = page.detectors[state.detector], dx = px - canvas.clientWidth / 2, dy = canvas.clientHeight / 2 - py;
  const smallest = 0.5 * Math.min(canvas.clientWidth / detector.width, canvas.clientHeight / detector.height);
  const scale = Math.min(Math.max(state.scale * factor, Math.min(smallest, 1)), LARGEST_SCALE);
  // The pixel under the pointer stays there.
  state.x += dx / state.scale - dx / scale;
  state.y += dy / state.scale - dy / scale;
  state.scale = scale;
  draw();
}

function show(shown) {
  state.shown = shown;
  element("mask").setAttribute("aria-pressed", shown);
  draw();
}

function blink(on = !blinking) {
  clearInterval(blinking);
  blinking = on ? setInterval(() => show(!state.shown), BLINK_MILLISECONDS) : 0;
  element("blink").setAttribute("aria-pressed", on);
  if (!on) show(true);
}

function tell(event) {
  if (!state.pyramid) return;
  const detector = page.detectors[state.detector], box = canvas.getBoundingClientRect();
  const column = Math.floor(state.x + (event.clientX - box.left - box.width / 2) / state.scale);
  const row = Math.floor(state.y - (event.clientY - box.top - box.height / 2) / state.scale);
  if (column < 0 || row < 0 || column >= detector.width || row >= detector.height) { element("under").textContent = ""; return; }
  const plane = state.pyramid[0], at = row * plane.width + column, [low, high] = page.shades;
  const shade = plane.shade[at], significance = 2 * Math.sinh(low + shade * (high - low) / 255);
  const bound = shade === 255 ? "≥ " : shade === 0 ? "≤ " : "";
  const said = plane.flags[at] & NOT_SEARCHED ? "not searched" : `probability ${plane.level[at] ? probability(plane.level[at]).toFixed(3) : "0"}`;
  element("under").textContent = `x ${column + detector.x}  y ${row + detector.y}  S/N ${bound}${significance.toPrecision(3)}  ${said}${masked(plane.level[at], plane.flags[at], state.level) ? "  masked" : ""}`;
}

const pointers = new Map();
canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, event); });
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  tell(event);
  const before = pointers.get(event.pointerId);
  if (!before || !state.pyramid) return;
  if (pointers.size === 2) {
    const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId), box = canvas.getBoundingClientRect();
    const distance = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY) || 1;
    zoom(distance(event) / distance(before), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
  } else {
    state.x -= (event.clientX - before.clientX) / state.scale;
    state.y += (event.clientY - before.clientY) / state.scale;
    draw();
  }
  pointers.set(event.pointerId, event);
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (!state.pyramid) return;
  const box = canvas.getBoundingClientRect();
  zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 300), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
element("mask").addEventListener("click", () => { const shown = !state.shown; if (blinking) blink(false); show(shown); });
element("blink").addEventListener("click", () => blink());
element("threshold").addEventListener("input", (event) => { state.level = Number(event.target.value); changed(); });
element("reset").addEventListener("click", () => { state.level = page.atThreshold; changed(); });
element("white").addEventListener("input", draw);
element("closer").addEventListener("click", () => zoom(1.5));
element("away").addEventListener("click", () => zoom(1 / 1.5));
element("fit").addEventListener("click", fit);
element("hits").addEventListener("click", (event) => { const row = event.target.closest("tr"); if (row) choose(Number(row.dataset.hit)); });
document.querySelector("thead").addEventListener("click", (event) => {
  const column = Number(event.target.dataset.column), { dataset } = element("hits");
  list(column, Number(dataset.column) === column ? dataset.descending !== "true" : column > 1);
  changed();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
  const action = { m: () => element("mask").click(), b: () => blink(), "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit }[event.key];
  if (action && state.pyramid) action();
});
page.detectors.forEach((detector, i) => element("detector").add(new Option(detector.name || `detector ${i + 1}`, i)));
element("choice").hidden = page.detectors.length === 1;
element("detector").addEventListener("change", (event) => open(Number(event.target.value)));
new ResizeObserver(draw).observe(canvas);
open(0).catch((error) => { element("under").textContent = `this browser cannot show it: ${error.message}`; });
