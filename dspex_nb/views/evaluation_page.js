/* Searches, filters, sorts and pages through the rows of #data. Everything is written as text: no markup is made of it. */
"use strict";
const PAGE = 50;
const { metrics, messages, rows } = JSON.parse(document.getElementById("data").textContent);
const state = { find: "", show: "all", order: "index", down: false, page: 0, open: new Set() };
const shows = {
  all: () => true,
  failures: (row) => row.verdict === "error" || row.verdict === "wrong",
  errors: (row) => row.verdict === "error",
  "not failed": (row) => row.verdict !== "error" && row.verdict !== "wrong",
};
for (const row of rows) {
  const texts = [row.inputs, row.expected, row.outputs].flatMap(Object.values);
  row.text = [...texts, row.error].join("\n").toLowerCase();
}

/** Make an element with text or children in it. */
function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const root = document.getElementById("rows");
const find = make("input");
find.type = "search";
find.placeholder = "find in inputs, answers, errors";
find.setAttribute("aria-label", find.placeholder);
const show = make("select");
show.setAttribute("aria-label", "which rows");
for (const [name, fits] of Object.entries(shows)) {
  const option = make("option", "", `${name} (${rows.filter(fits).length})`);
  option.value = name;
  show.append(option);
}
const count = make("span", "muted");
const back = make("button", "", "◂");
const on = make("button", "", "▸");
back.setAttribute("aria-label", "page before");
on.setAttribute("aria-label", "next page");
const table = make("div", "scroll");
root.append(make("div", "bar", find, show, back, on, count), table);
const change = (what) => { Object.assign(state, { page: 0 }, what); draw(); };
find.addEventListener("input", () => change({ find: find.value.toLowerCase() }));
show.addEventListener("change", () => change({ show: show.value }));
back.addEventListener("click", () => change({ page: state.page - 1 }));
on.addEventListener("click", () => change({ page: state.page + 1 }));

function matching() {
  const found = rows.filter((row) => shows[state.show](row) && row.text.includes(state.find.trim()));
  const key = (row) => (state.order in row ? row[state.order] : row.scores[state.order]) ?? 0;
  return found.sort((a, b) => (key(a) - key(b)) * (state.down ? -1 : 1));
}

function heading(text, order, className) {
  if (!order) return make("th", className, text);
  const arrow = state.order === order ? (state.down ? " ▾" : " ▴") : "";
  const button = make("button", "", text + arrow);
  button.addEventListener("click", () => change({ order, down: state.order === order && !state.down }));
  return make("th", className, button);
}

function fields(values) {
  const names = Object.keys(values);
  if (names.length === 1) return make("td", "text", values[names[0]]);
  return make("td", "text", ...names.map((name) => make("div", "", make("span", "muted", `${name}: `), values[name])));
}

function drawn(row) {
  const opened = state.open.has(row.index);
  const number = make("button", "", `${opened ? "▾" : "▸"} ${row.index}`);
  number.setAttribute("aria-expanded", String(opened));
  const signs = { right: "✓ right", wrong: "✗ wrong", error: "✗ error" };
  const line = make(
    "tr", opened ? "row open" : "row", make("td", "number", number), make("td", row.verdict, signs[row.verdict] ?? ""),
    fields(row.inputs), fields(row.expected), row.error ? make("td", "text error", row.error) : fields(row.got),
    ...metrics.map((name) => make("td", "number", (row.scores[name] ?? 0).toFixed(3))),
    make("td", "number", row.latency === null ? "–" : `${row.latency.toFixed(2)} s`),
  );
  line.addEventListener("click", () => {
    if (String(window.getSelection())) return;
    state.open[opened ? "delete" : "add"](row.index);
    draw();
  });
  if (!opened) return [line];
  const cell = make("td", "", trace(row));
  cell.colSpan = 6 + metrics.length;
  return [line, make("tr", "", cell)];
}

function trace(row) {
  const box = make("div", "trace");
  if (!row.calls.length) box.append(make("p", "muted", "No model was asked on this example's behalf, or its calls were a run of their own."));
  row.calls.forEach((call, at) => {
    const took = call.cached ? `from cache (${call.cached})` : `${call.tokens[0]} + ${call.tokens[1]} tokens`;
    const cost = call.cost === null ? "cost unknown" : call.cost ? `$${call.cost.toPrecision(2)}` : "free";
    const facts = [call.step, call.model, took, cost, `${call.seconds.toFixed(2)} s`].filter(Boolean).join(" · ");
    box.append(make("h3", "", `Call ${at + 1} of ${row.calls.length} `, make("span", "muted", facts)));
    for (const index of call.messages) box.append(make("div", "muted", messages[index][0]), make("pre", "", messages[index][1]));
    if (call.options) box.append(make("div", "muted", "options"), make("pre", "", call.options));
    for (const answer of call.answers) box.append(make("div", "muted", "raw answer"), make("pre", "", answer));
    if (call.error) box.append(make("div", "error", call.error));
  });
  const list = make("dl");
  const add = (name, value) => list.append(make("dt", "", name), make("dd", "", value));
  for (const kind of ["inputs", "expected"]) for (const [name, value] of Object.entries(row[kind])) add(`${kind} ${name}`, value);
  for (const [name, value] of Object.entries(row.outputs)) add(`read ${name}`, value);
  if (row.error) add("error", row.error);
  box.append(list);
  return box;
}

function draw() {
  const found = matching();
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  count.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} examples, page ${state.page + 1} of ${pages}`;
  back.disabled = state.page === 0;
  on.disabled = state.page === pages - 1;
  const heads = make(
    "tr", "", heading("#", "index", "number"), heading(""), heading("Inputs"), heading("Expected"), heading("Got"),
    ...metrics.map((name) => heading(name, name, "number")), heading("Time", "latency", "number"),
  );
  const shown = found.slice(state.page * PAGE, (state.page + 1) * PAGE).flatMap(drawn);
  table.replaceChildren(make("table", "rows", make("thead", "", heads), make("tbody", "", ...shown)));
}
draw();
