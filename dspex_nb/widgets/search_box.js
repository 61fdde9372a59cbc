/* A box to search in: sends what is typed a moment after the last key, shows the `html` that comes back, written by the kernel's views. */

const WAIT_MS = 200;

/** Make an input with its label; the label is its accessible name. */
function field(label, value, placeholder, width) {
  const input = document.createElement("input");
  input.value = value;
  input.placeholder = placeholder;
  input.setAttribute("aria-label", label);
  input.className = "dspex-search-field";
  input.style.flex = width;
  return input;
}

export default {
  render({ model, el }) {
    const query = field("query", model.get("query"), "search…", "3 1 220px");
    const filter = field("filter", model.get("filter"), 'filter, e.g. {"year": {"$gte": 2020}}', "2 1 200px");
    const count = field("how many", String(model.get("k")), "k", "0 0 64px");
    count.type = "number";
    count.min = "1";
    const row = document.createElement("div");
    row.className = "dspex-search-row";
    row.append(query, filter, count);
    const found = document.createElement("div");
    found.setAttribute("aria-live", "polite");
    el.classList.add("dspex-search");
    el.append(row, found);

    let timer = 0;
    const ask = (keep) => {
      clearTimeout(timer);
      row.classList.add("dspex-asking");
      model.send({ query: query.value, filter: filter.value, k: Number(count.value) || 0, keep });
    };
    const typed = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ask(false), WAIT_MS);
    };
    const entered = (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      ask(true);
    };
    // Lab's shortcuts must not take what is typed here.
    const own = (event) => event.stopPropagation();
    const draw = () => {
      found.innerHTML = model.get("html");
      row.classList.remove("dspex-asking");
    };
    draw();
    row.addEventListener("input", typed);
    row.addEventListener("keydown", entered);
    for (const name of ["keydown", "keyup", "keypress"]) row.addEventListener(name, own);
    model.on("change:html", draw);
    if (model.get("kept")) query.focus(); // the display was renewed by Enter
    return () => {
      clearTimeout(timer);
      model.off("change:html", draw);
    };
  },
};
