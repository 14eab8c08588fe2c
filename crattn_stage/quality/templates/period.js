"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#8a6d3b"];
const VERDICTS = { PASS: "#2a9d5c", WARN: "#e09f1f", FAIL: "#c8102e" };
// Not the buttons that send a plot somewhere.
const IS_NARROW = window.innerWidth < 600;
const CONFIG = { responsive: true, displaylogo: false, displayModeBar: IS_NARROW ? false : "hover", modeBarButtons: [["zoom2d", "pan2d", "autoScale2d", "toImage"]] };
const DASH = "–";
const element = (id) => document.getElementById(id);
// plotly reads some HTML in texts.
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const named = (name) => (name === null ? "unknown filter" : name);
const colour = (number) => COLOURS[number % COLOURS.length];

// A number in a style such as ".2f" or ".1%".
function shown(value, style) {
  if (value === null || value === undefined) return DASH;
  const digits = Number(style.slice(1, -1));
  return style.endsWith("%") ? `${(100 * value).toFixed(digits)}%` : value.toFixed(digits);
}

function added(parent, tag, text = "", kind = "") {
  const child = document.createElement(tag);
  child.textContent = text;
  if (kind) child.className = kind;
  parent.append(child);
  return child;
}

function linked(parent, text, address) {
  const link = added(parent, "a", text);
  link.href = address;
}

// A date some days later.
function moved(day, days) {
  const date = new Date(`${day}T00:00:00Z`);
  date.setUTCDate(date.getUTCDate() + days);
  return date.toISOString().slice(0, 10);
}

function layout(more = {}) {
  return {
    // A finger that drags scrolls the page.
    dragmode: IS_NARROW ? false : "zoom",
    margin: { l: 52, r: 12, t: 8, b: 32 }, font: { size: 11 }, hovermode: "closest", showlegend: false,
    paper_bgcolor: "#fff", plot_bgcolor: "#f7f8fa", xaxis: { gridcolor: "#e3e7ec", type: "date", ...(page.days ? { range: [moved(page.days[0], -1), moved(page.days.at(-1), 1)] } : {}) }, yaxis: { gridcolor: "#e3e7ec", zeroline: false },
    ...more,
  };
}

const linkedPlots = [];
function plot(parent, title, traces, shape, { height = 0, click = null, share = true } = {}) {
  const figure = added(parent, "figure");
  added(figure, "figcaption", title);
  const box = added(figure, "div", "", "plot");
  if (height) box.style.height = `${height}px`;
  Plotly.newPlot(box, traces, shape, CONFIG);
  if (click) box.on("plotly_click", ({ points: [point] }) => { const address = click(point); if (address) window.location.href = address; });
  if (!share) return;
  linkedPlots.push(box);
  // A zoom in time is that of all plots.
  box.on("plotly_relayout", (change) => {
    const range = ["xaxis.range[0]", "xaxis.range[1]"].map((key) => change[key]);
    const same = range[0] !== undefined ? { "xaxis.range": range } : change["xaxis.autorange"] ? { "xaxis.autorange": true } : null;
    if (!same) return;
    for (const other of linkedPlots) {
      const now = JSON.stringify(other.layout.xaxis.autorange ? "auto" : other.layout.xaxis.range);
      if (other !== box && now !== JSON.stringify(same["xaxis.range"] || "auto")) Plotly.relayout(other, same);
    }
  });
}

// Where a night of a plot leads: to its month, or to its own page.
function below(day) {
  return page.kind === "month" ? `${day.replaceAll("-", "")}.html` : `${day.slice(0, 7)}.html`;
}

function vertical(day, style) {
  return { type: "line", x0: day, x1: day, yref: "paper", y0: 0, y1: 1, line: style, layer: "below" };
}

// The nights at which another model came into use.
function modelMarks() {
  const changes = (page.models || []).slice(page.models && page.models.length && page.models[0].day <= page.days[0] ? 1 : 0);
  return {
    shapes: changes.map((change) => vertical(change.day, { color: "#667", width: 1.5, dash: "dot" })),
    annotations: changes.map((change) => ({ x: change.day, yref: "paper", y: 1, yanchor: "top", xanchor: "left", showarrow: false, text: escaped(change.model), font: { size: 10, color: "#556" }, bgcolor: "#ffffffc0" })),
  };
}

function lines(name) {
  const [title, style] = page.labels[name], marks = modelMarks();
  const changes = (page.changes || []).filter((change) => change.quantity === name);
  for (const change of changes) marks.shapes.push(vertical(change.day, { color: change.filters.length > 1 ? "#1d2530" : colour(change.filters[0]), width: 1.5, dash: "dash" }));
  const many = page.days.length > 120;
  const traces = page.series[name].map((y, number) => ({
    type: "scatter", mode: many ? "markers" : "lines+markers", name: escaped(named(page.filters[number])), x: page.days, y,
    marker: { size: many ? 4 : 5, color: colour(number) }, line: { width: 1, color: colour(number) }, connectgaps: false, meta: number,
    hovertemplate: `%{x|%Y-%m-%d}<br>%{y:${style}}`,
  }));
  const empty = page.series[name].every((y) => y.every((value) => value === null));
  if (empty) marks.annotations = [{ xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, text: "not measured in these nights" }];
  const gaps = empty ? { xaxis: { visible: false }, yaxis: { visible: false } } : {};
  plot(element("plots"), title, traces, layout({ ...marks, ...gaps, ...(empty ? {} : { yaxis: { gridcolor: "#e3e7ec", zeroline: false, tickformat: style.endsWith("%") ? ",~%" : "" } }) }), {
    click: (point) => (page.kind === "index" ? page.links[point.data.meta] : below(point.x.slice(0, 10))), share: !empty,
  });
}

function legend(names) {
  const line = added(element("lead"), "div");
  names.forEach((name, number) => {
    const mark = added(line, "span", "● ");
    mark.style.color = colour(number);
    added(line, "span", `${named(name)}   `);
  });
}

function verdicts() {
  const { frames, warnings, failures } = page.counts;
  const pass = frames.map((count, i) => (count === null ? null : count - warnings[i] - failures[i]));
  const traces = [["PASS", pass], ["WARN", warnings], ["FAIL", failures]].map(([name, y]) => ({
    type: "bar", name, x: page.days, y, marker: { color: VERDICTS[name], line: { width: 0 } }, hovertemplate: `%{x|%Y-%m-%d}<br>%{y} ${name}<extra></extra>`,
  }));
  plot(element("plots"), "frames: PASS, WARN and FAIL", traces, layout({ barmode: "stack", bargap: 0.1, ...modelMarks() }), { click: (point) => below(point.x.slice(0, 10)) });
}

// Rows of amplifiers, so high that the names can be read where there is room.
function heat(parent, title, names, columns, z, scale, hover, click) {
  const isMonths = String(columns[0]).length === 7;
  const height = Math.max(220, Math.min(900, 90 + 11 * names.length));
  const room = height - 90, every = Math.ceil((11 * names.length) / room);
  const ticks = names.map((_, i) => i).filter((i) => i % every === 0);
  const shape = layout({
    margin: { l: 74, r: 12, t: 8, b: 44 },
    yaxis: { tickvals: ticks, ticktext: ticks.map((i) => escaped(names[i])), tickfont: { size: 9 }, autorange: "reversed", showgrid: false, zeroline: false },
    xaxis: { type: "date", showgrid: false, ...(isMonths ? { tickformat: "%b\n%Y", dtick: columns.length > 12 || IS_NARROW ? "M3" : "M1" } : {}) },
  });
  const trace = { type: "heatmap", x: columns, y: names.map((_, i) => i), z, ...scale, hoverongaps: false, customdata: hover.values, hovertemplate: hover.template, colorbar: { thickness: 10, len: 0.9, ...scale.colorbar } };
  plot(parent, title, [trace], shape, { height, click, share: columns.length === page.days.length });
}

function balance() {
  const own = page.balance, more = element("more");
  added(more, "h2", "Amplifiers");
  if (!own) { added(more, "p", "The frames have one amplifier, or none is recorded.", "note"); return; }
  added(more, "p", "Hits of an amplifier over those expected for its area among the hits of its frames. Much above 1: hot pixels, or a light leak. Much below 1: the amplifier fails, or its gain is wrong.", "note");
  const values = own.ratio.map((line, i) => line.map((_, j) => [escaped(own.names[i]), own.hits[i][j]]));
  const z = own.ratio.map((line) => line.map((value) => (value === null ? null : Math.log2(Math.max(value, 0.01)))));
  const scale = { zmin: -1, zmax: 1, colorscale: [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]], colorbar: { tickvals: [-1, -0.585, 0, 0.585, 1], ticktext: ["½", "⅔", "1", "1.5", "2"] } };
  own.ratio.forEach((line, i) => line.forEach((value, j) => values[i][j].push(value === null ? "" : value.toFixed(2), own.periods[j])));
  heat(more, "hits over those expected", own.names, own.periods, z, scale, { values, template: "%{customdata[0]}, %{customdata[3]}<br>%{customdata[2]} times the expected hits<br>%{customdata[1]} hits<extra></extra>" }, (point) => below(point.x.slice(0, 10)));
}

function hits() {
  const own = page.hits, more = element("more");
  added(more, "h2", "Hits as objects");
  if (!own) {
    const line = added(more, "p", "There is no table of hits of these nights, so their charge and angle are not known here: ", "note");
    added(line, "code", "--hits");
    line.append(" of run and reprocess keeps one.");
    return;
  }
  const charges = own.limits.map((limit, i) => (i ? own.limits[i - 1] : own.limits[0] / (own.limits[1] / own.limits[0])));
  const middle = [...charges, own.limits.at(-1)].map((low) => low * Math.sqrt(own.limits[1] / own.limits[0]));
  const box = added(more, "div", "", "plots");
  const traces = own.charges.map((counts, month) => {
    const sum = counts.reduce((a, b) => a + b, 0);
    const shade = own.months.length > 1 ? Math.round(215 - (175 * month) / (own.months.length - 1)) : 60;
    return { type: "scatter", mode: "lines", line: { shape: "hvh", width: 1.5, color: `rgb(${shade}, ${Math.round(shade * 0.8)}, 160)` }, name: own.months[month], x: middle, y: counts.map((count) => (sum ? count / sum : null)), hovertemplate: "%{x:.3s} electrons<br>%{y:.1%}" };
  });
  const axes = { xaxis: { type: "log", title: { text: "electrons" }, gridcolor: "#e3e7ec" }, yaxis: { tickformat: ",~%", gridcolor: "#e3e7ec", zeroline: false }, margin: { l: 52, r: 12, t: 8, b: 44 } };
  plot(box, own.months.length > 1 ? "charge of hits, by month (the later the darker)" : "charge of hits", traces, layout(axes), { share: false });
  const quantities = [
    ["charge", "median charge, electrons", ".4s", {}], ["spots", "fraction of spots", ".1%", {}],
    ["columns", "fraction along columns (1/12 expected)", ".1%", {}], ["rows", "fraction along rows (1/12 expected)", ".1%", {}],
  ];
  added(more, "p", "Spots that multiply in one amplifier are hot pixels; hits along columns are bad columns or bleeding, along rows the readout. The median charge follows the gain. Blank: too few hits.", "note");
  if (own.charge.every((line) => line.every((value) => value === null))) added(more, "p", "The charge is not known: too few hits, or no gain.", "note");
  const under = added(more, "div", "", "plots");
  for (const [name, title, style] of quantities) {
    const values = own[name].map((line, i) => line.map((_, j) => [escaped(own.names[i]), own.count[i][j], own.months[j]]));
    const template = `%{customdata[0]}, %{customdata[2]}<br>%{z:${style}}<br>of %{customdata[1]} hits<extra></extra>`;
    if (own.months.length > 1) {
      const scale = { colorscale: "Viridis", colorbar: { tickformat: style.endsWith("%") ? ",~%" : "~s" } };
      heat(under, title, own.names, own.months, own[name], scale, { values, template }, (point) => `${point.x.slice(0, 7)}.html`);
    } else {
      const trace = { type: "bar", x: own.names.map((_, i) => i), y: own[name].map((line) => line[0]), marker: { color: "#4a6a8a" }, customdata: values.map((line) => line[0]), hovertemplate: `%{customdata[0]}<br>%{y:${style}}<br>of %{customdata[1]} hits<extra></extra>` };
      const every = Math.ceil(own.names.length / (IS_NARROW ? 6 : 16)), ticks = own.names.map((_, i) => i).filter((i) => i % every === 0);
      plot(under, title, [trace], layout({ xaxis: { tickvals: ticks, ticktext: ticks.map((i) => escaped(own.names[i])) }, yaxis: { tickformat: style.endsWith("%") ? ",~%" : "~s" } }), { share: false });
    }
  }
}

function changes() {
  const more = element("more"), found = [...(page.changes || [])], amplifiers = page.balance ? page.balance.changes : [];
  added(more, "h2", "Changes");
  if (page.models.length) {
    const line = added(more, "p", "Models: ", "note");
    line.append(page.models.map((model, i) => `${model.model} ${model.sha256.slice(0, 8)}${i || model.day > page.days[0] ? ` since ${model.day}` : ""}`).join(", "), ".");
  }
  if (!found.length && !amplifiers.length) { added(more, "p", "No change of level was found.", "note"); return; }
  const table = added(added(more, "div", "", "scroll"), "table"), head = added(table, "tr");
  for (const title of ["night", "what", "before", "after", ""]) added(head, "th", title, title === "what" ? "text" : "");
  const rows = [
    ...found.map((change) => [change.day, `${page.labels[change.quantity][0]}, ${change.filters.map((number) => named(page.filters[number])).join(" ")}`, ...[change.before, change.after].map((value) => shown(value, page.labels[change.quantity][1])), change.withModel ? "with the model" : ""]),
    ...amplifiers.map((change) => [change.day, `hits of ${change.amplifier} over those expected`, ...[change.before, change.after].map((value) => shown(value, ".2f")), ""]),
  ].sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  for (const [day, ...cells] of rows) {
    const row = added(table, "tr");
    linked(added(row, "td"), day, below(day));
    cells.forEach((cell, i) => added(row, "td", cell, i === 0 ? "text" : ""));
  }
}

function list() {
  const table = element("table"), head = added(added(table, "thead"), "tr"), body = added(table, "tbody");
  page.head.forEach((title, i) => added(head, "th", title, i === 0 ? "text" : ""));
  for (const cells of page.rows) {
    const row = added(body, "tr");
    cells.forEach((cell, i) => {
      const at = added(row, "td", "", i === 0 ? "text" : "");
      if (Array.isArray(cell)) at.textContent = shown(...cell);
      else if (cell.link) linked(at, cell.text, cell.link);
      else { at.textContent = cell; if (cell > 0 && ["WARN", "FAIL"].includes(page.head[i])) at.className = page.head[i]; }
    });
  }
}

function night() {
  const { frames, quantities, filters } = page;
  quantities.forEach((name, number) => {
    const [title, style] = page.labels[name];
    const traces = filters.map((filter, f) => {
      const own = frames.map((frame, i) => [frame, i]).filter(([frame]) => frame.filter === f);
      return {
        type: "scatter", mode: "markers", name: escaped(named(filter)),
        x: own.map(([frame, i]) => (page.byTime ? frame.time : i + 1)), y: own.map(([frame]) => frame.values[number]), customdata: own.map(([, i]) => i),
        text: own.map(([frame]) => `${escaped(frame.name)}<br>${frame.verdict}${frame.why ? `: ${escaped(frame.why)}` : ""}`),
        marker: { size: 7, color: colour(f), symbol: own.map(([frame]) => ({ PASS: "circle", WARN: "triangle-up", FAIL: "x" })[frame.verdict]) },
        hovertemplate: `%{text}<br>%{y:${style}}`,
      };
    });
    const known = frames.some((frame) => frame.values[number] !== null);
    const empty = { annotations: [{ xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, text: "not measured in this night" }], xaxis: { visible: false }, yaxis: { visible: false } };
    const axes = { xaxis: { type: page.byTime ? "date" : "linear", gridcolor: "#e3e7ec" }, yaxis: { gridcolor: "#e3e7ec", zeroline: false, tickformat: style.endsWith("%") ? ",~%" : "" } };
    plot(element("plots"), title, traces, layout(known ? axes : empty), { click: (point) => frames[point.customdata].link || `#frame-${point.customdata}`, share: known });
  });
  const table = element("table"), head = added(added(table, "thead"), "tr"), body = added(table, "tbody");
  for (const title of ["frame", "filter", "UTC", "verdict", "why"]) added(head, "th", title, "text");
  for (const name of quantities) added(head, "th", page.labels[name][0]);
  added(head, "th", "model", "text");
  frames.forEach((frame, i) => {
    const row = added(body, "tr"), cell = added(row, "td", "", "text");
    row.id = `frame-${i}`;
    cell.title = frame.path;
    if (frame.link) linked(cell, frame.name, frame.link); else cell.textContent = frame.name;
    added(row, "td", named(filters[frame.filter]), "text");
    added(row, "td", frame.time ? frame.time.slice(11) : DASH, "text");
    added(row, "td", frame.verdict, `text ${frame.verdict}`);
    added(row, "td", frame.why || "", "text why");
    frame.values.forEach((value, number) => added(row, "td", shown(value, page.labels[quantities[number]][1])));
    added(row, "td", frame.model, "text");
  });
  const lead = element("lead"), line = added(lead, "p");
  line.append(page.byTime ? "Against UTC. " : "In the order of the frames: when they were observed is not known of all, or not in one night. ");
  line.append(frames.some((frame) => frame.link) ? "A click on a point opens its frame, where the command view has written a page; " : "A click on a point leads to its row; the command view writes pages of frames beside them; ");
  if (page.pictures) linked(line, "pictures and comparisons of this night", page.pictures);
  else { line.append("pictures, and comparisons with other nights: "); added(line, "code", page.command); line.append(", in the uppermost folder of these pages"); }
  line.append(".");
}

if (page.kind === "night") {
  legend(page.filters);
  night();
  element("heading").textContent = "Frames";
} else if (page.kind === "index") {
  legend(page.filters);
  for (const name of page.quantities) lines(name);
  if (page.undated.length) added(element("more"), "p", `Not shown are frames of nights that are no dates: ${page.undated.join(", ")}.`, "note");
  element("heading").textContent = "Months";
  list();
} else {
  legend(page.filters);
  added(element("lead"), "span", page.kind === "month" ? "A click on a point opens its night. " : "A click on a point opens its month. ");
  added(element("lead"), "span", "Dashed: a change of level. Dotted: another model.");
  verdicts();
  for (const name of page.quantities) lines(name);
  changes();
  balance();
  hits();
  element("heading").textContent = page.kind === "month" ? "Nights" : "Months";
  list();
}
document.body.dataset.ready = page.kind;
