/* Shows the `html` trait and reports clicks on [data-dspex-action], with data-dspex-value where there is one, and what is typed
   or chosen in an <input> or <select> that has an action. The markup is written and escaped by the kernel's views. */

const TYPED_MS = 180;

/** Make `have` look like `want`, touching only what differs: open details, scroll, focus and images stay. */
function morph(have, want) {
  const olds = [...have.childNodes];
  const news = [...want.childNodes];
  news.forEach((fresh, i) => {
    const old = olds[i];
    if (!old) {
      have.appendChild(fresh);
    } else if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      have.replaceChild(fresh, old);
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      attributes(old, fresh);
      morph(old, fresh);
    } else if (old.nodeValue !== fresh.nodeValue) {
      old.nodeValue = fresh.nodeValue;
    }
  });
  olds.slice(news.length).forEach((old) => old.remove());
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
      const draw = () => {
        const template = document.createElement("template");
        template.innerHTML = model.get("html");
        morph(root, template.content);
      };
      const clicked = (event) => {
        const button = event.target.closest && event.target.closest("[data-dspex-action]");
        if (!button || button.disabled || button.matches("input, select")) return;
        const action = button.getAttribute("data-dspex-action");
        const value = button.getAttribute("data-dspex-value");
        if (value !== null) {
          if (!String(window.getSelection())) model.send({ action, value }); // marking text in a row is no click on it
          return;
        }
        button.disabled = true;
        model.send({ action });
      };
      const waiting = new Map(); // of each field its timer
      const typed = (event) => {
        const field = event.target;
        if (!field.matches || !field.matches("input[data-dspex-action], select[data-dspex-action]")) return;
        clearTimeout(waiting.get(field));
        const send = () => model.send({ action: field.getAttribute("data-dspex-action"), value: field.value });
        waiting.set(field, setTimeout(send, field.nodeName === "SELECT" ? 0 : TYPED_MS));
      };
      const toggled = (event) => {
        const key = place(root, event.target);
        if (event.target.open) opened.add(key);
        else opened.delete(key);
      };
      draw();
      root.querySelectorAll("details").forEach((d) => opened.has(place(root, d)) && (d.open = true));
      root.addEventListener("click", clicked);
      root.addEventListener("input", typed);
      root.addEventListener("toggle", toggled, true);
      model.on("change:html", draw);
      scheme(root);
      const themes = new MutationObserver(() => scheme(root));
      themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
      return () => {
        waiting.forEach((timer) => clearTimeout(timer));
        model.off("change:html", draw);
        themes.disconnect();
      };
    },
  };
};
