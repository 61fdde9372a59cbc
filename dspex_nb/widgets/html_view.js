/* Shows the `html` trait, draws the `plot` trait, and reports what is clicked, chosen or written at [data-dspex-action].
   The markup is written and escaped by the kernel's views. */

const PLOTLY = "application/vnd.plotly.v1+json";
const WRITING_MS = 250;

/** Make `have` look like `want`, touching only what differs: open details, scroll, focus, images and plots stay. */
function morph(have, want) {
  const olds = [...have.childNodes];
  const news = [...want.childNodes];
  news.forEach((fresh, i) => {
    const old = olds[i];
    if (!old) {
      have.appendChild(fresh);
    } else if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || isPlot(old) !== isPlot(fresh)) {
      have.replaceChild(fresh, old);
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      attributes(old, fresh);
      if (!isPlot(old)) morph(old, fresh);
    } else if (old.nodeValue !== fresh.nodeValue) {
      old.nodeValue = fresh.nodeValue;
    }
  });
  olds.slice(news.length).forEach((old) => old.remove());
}

/** What stands inside a plot's place belongs to plotly. */
function isPlot(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.hasAttribute("data-dspex-figure");
}

/** Copy attributes; whether a <details> is open belongs to the reader. */
function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (name === "open" && old.nodeName === "DETAILS") continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

/** Pictures follow `color-scheme`, which Lab does not set: tell them whether the page is dark. */
function scheme(el) {
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) el.style.colorScheme = lab === "false" ? "dark" : "light";
}

/** Return the plotly that Lab's own renderer of figures brings, null elsewhere: megabytes that need not be sent again. */
async function plotly(model) {
  try {
    const rendermime = model.widget_manager.rendermime;
    const renderer = rendermime.createRenderer(PLOTLY);
    await renderer.renderModel(rendermime.createModel({ data: { [PLOTLY]: { data: [], layout: {} } } }));
    const found = renderer.constructor.Plotly;
    renderer.dispose();
    return found && found.react ? found : null;
  } catch {
    return null;
  }
}

/** Return the layout in the theme's colours. */
function themed(layout, el) {
  const of = (name, other) => getComputedStyle(el).getPropertyValue(name).trim() || other;
  const text = of("--jp-ui-font-color1", "#7f8893");
  const quiet = of("--jp-ui-font-color2", "#7f8893");
  const page = of("--jp-layout-color1", "#fff");
  const made = { ...layout, autosize: true, font: { ...layout.font, color: text } };
  made.hoverlabel = { ...layout.hoverlabel, bgcolor: page, bordercolor: quiet, font: { color: text, size: 12 } };
  if (made.title && made.title.subtitle) {
    made.title = { ...made.title, subtitle: { ...made.title.subtitle, font: { ...made.title.subtitle.font, color: quiet } } };
  }
  delete made.width;
  return made;
}

/** Return the trial that a point of a plot stands for, or undefined. */
function trialOf(event) {
  const point = event.points && event.points[0];
  const said = point && (Array.isArray(point.customdata) ? point.customdata[0] : point.data.meta === "trial" ? point.x : undefined);
  return Number.isInteger(said) ? said : undefined;
}

export default () => {
  // One per model, not per view: a display that is refreshed keeps what the reader opened.
  const opened = new Set();
  const place = (root, node) => {
    const path = [];
    for (let at = node; at && at !== root; at = at.parentNode) path.unshift([...at.parentNode.childNodes].indexOf(at));
    return path.join("/");
  };
  return {
    render({ model, el }) {
      const root = document.createElement("div");
      el.appendChild(root);
      let library;
      let drawing = false;
      let again = false;
      const writing = new Map(); // of each field its timer: one must not swallow what another said
      let drawn = "";
      const drawPlot = async () => {
        const slot = root.querySelector("[data-dspex-figure]");
        if (!slot || !model.get("plot")) return;
        if (drawing) {
          again = true;
          return;
        }
        if (!slot.offsetWidth) {
          sizes.observe(slot); // not on the page yet: plotly would measure texts of no size
          return;
        }
        drawing = true;
        try {
          library = library || plotly(model);
          const Plotly = await library;
          if (!Plotly) {
            model.send({ action: "still", value: "" });
            return;
          }
          const told = model.get("plot") + document.body.dataset.jpThemeLight;
          if (told === drawn && slot.querySelector(":scope > .dspex-plot")) return;
          const { name, data, layout } = JSON.parse(model.get("plot"));
          if (slot.getAttribute("data-dspex-figure") !== name) return;
          drawn = told;
          let graph = slot.querySelector(":scope > .dspex-plot");
          if (!graph || graph.dataset.name !== name) {
            if (graph) Plotly.purge(graph);
            graph = document.createElement("div");
            graph.className = "dspex-plot";
            graph.dataset.name = name;
            slot.replaceChildren(graph);
          }
          const fresh = !graph.on;
          await Plotly.react(graph, data, themed(layout, root), { displayModeBar: false, responsive: true });
          if (fresh) {
            graph.on("plotly_click", (event) => {
              const trial = trialOf(event);
              if (trial !== undefined) model.send({ action: "trial", value: String(trial) });
            });
            sizes.disconnect();
            sizes.observe(slot);
          }
        } finally {
          drawing = false;
          if (again) {
            again = false;
            drawPlot();
          }
        }
      };
      const sizes = new ResizeObserver(async () => {
        const graph = root.querySelector(".dspex-plot");
        if (!graph) {
          drawPlot();
          return;
        }
        const Plotly = await library;
        if (Plotly && graph.on && graph.offsetWidth) Plotly.Plots.resize(graph);
      });
      const draw = () => {
        const template = document.createElement("template");
        template.innerHTML = model.get("html");
        morph(root, template.content);
        drawPlot();
      };
      const clicked = (event) => {
        const pressed = event.target.closest && event.target.closest("[data-dspex-action]");
        if (!pressed || pressed.disabled || pressed.matches("input, select")) return;
        const action = pressed.getAttribute("data-dspex-action");
        const value = pressed.getAttribute("data-dspex-value");
        if (value !== null) {
          if (String(getSelection())) return; // someone is copying from it
          model.send({ action, value });
        } else {
          pressed.disabled = true;
          model.send({ action });
        }
      };
      const written = (event) => {
        const field = event.target.closest && event.target.closest("input[data-dspex-action], select[data-dspex-action]");
        if (!field) return;
        clearTimeout(writing.get(field));
        const wait = event.type === "change" || field.nodeName === "SELECT" ? 0 : WRITING_MS;
        const send = () => model.send({ action: field.getAttribute("data-dspex-action"), value: field.value });
        writing.set(field, setTimeout(send, wait));
      };
      /** Lab takes keys for its own commands; while someone writes here they are letters. */
      const typed = (event) => {
        if (event.target.nodeName === "INPUT") event.stopPropagation();
      };
      const toggled = (event) => {
        const key = place(root, event.target);
        if (event.target.open) opened.add(key);
        else opened.delete(key);
      };
      draw();
      root.querySelectorAll("details").forEach((d) => opened.has(place(root, d)) && (d.open = true));
      root.addEventListener("click", clicked);
      root.addEventListener("input", written);
      root.addEventListener("keydown", typed);
      root.addEventListener("toggle", toggled, true);
      model.on("change:html", draw);
      model.on("change:plot", drawPlot);
      scheme(root);
      const themes = new MutationObserver(() => {
        scheme(root);
        drawPlot();
      });
      themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
      return () => {
        model.off("change:html", draw);
        model.off("change:plot", drawPlot);
        themes.disconnect();
        sizes.disconnect();
        writing.forEach((timer) => clearTimeout(timer));
        const graph = root.querySelector(".dspex-plot");
        if (graph && library) library.then((Plotly) => Plotly && Plotly.purge(graph));
      };
    },
  };
};
