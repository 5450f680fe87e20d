"use strict";
(() => {
  const data = JSON.parse(document.getElementById("run").textContent);
  const panel = document.getElementById("why");
  const maps = [...document.querySelectorAll("table.heat")];
  const buttons = (row) => [...row.querySelectorAll("button")];
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    return value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(3) : Number(value.toPrecision(4)).toString();
  };
  const element = (name, text, parent) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  let chosen = null;

  function show(button) {
    const cell = button.closest("th, td");
    const layer = data.groups[+cell.closest("table").dataset.group].layers[+cell.parentElement.dataset.layer];
    const group = data.groups[+cell.closest("table").dataset.group];
    const at = cell.cellIndex - 2;
    const own = at < 0 ? null : layer.cells[at];
    panel.replaceChildren();
    const what = own ? (own[0] ? `${layer.method} of size ${own[0]}` : "frozen") : layer.does;
    const title = element("h3", undefined, panel);
    for (const part of `${layer.name}${own ? "." + group.columns[at] : ""}: ${what}`.split(/(?<=\.)/)) {
      title.append(part, document.createElement("wbr"));
    }
    element("p", `Why: ${layer.reason}.`, panel);
    if (layer.flip) element("p", `What would flip it: ${layer.flip}.`, panel);
    for (const cause of layer.refused) element("p", `Refused: ${cause}.`, panel);
    const list = element("dl", undefined, panel);
    const fact = (name, text) => { element("dt", name, list); element("dd", text, list); };
    if (own && own[1] !== null) fact("parameters here", own[1].toLocaleString("en"));
    fact("parameters of the layer", layer.parameters.toLocaleString("en"));
    fact("utility of the layer", number(layer.utility));
    for (const [metric, [raw, error, normal]] of Object.entries(layer.scores)) {
      const { unit, weight } = data.metrics[metric];
      const here = own ? own[2][data.module_metrics.indexOf(metric)] : undefined;
      const spread = error === null ? "" : ` ± ${number(error)}`;
      const parts = [`layer ${number(raw)}${spread} ${unit}`, `normalised ${number(normal)}`];
      if (weight !== null) parts.push(`weight ${number(weight)}`);
      if (here !== undefined && here !== null) parts.unshift(`here ${number(here)}`);
      fact(metric, parts.join("; "));
    }
    if (chosen) chosen.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    chosen = button;
  }

  function focus(button) {
    for (const other of button.closest("table").querySelectorAll("button")) other.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
  }

  function move(button, key) {
    const row = button.closest("tr");
    const rows = [...row.parentElement.rows];
    const at = buttons(row).indexOf(button);
    const column = button.closest("th, td").cellIndex;
    const near = (other) => other && buttons(other).reduce((best, each) =>
      Math.abs(each.closest("th, td").cellIndex - column) < Math.abs(best.closest("th, td").cellIndex - column) ? each : best);
    const index = rows.indexOf(row);
    return {
      ArrowRight: () => buttons(row)[at + 1], ArrowLeft: () => buttons(row)[at - 1],
      ArrowDown: () => near(rows[index + 1]), ArrowUp: () => near(rows[index - 1]),
      Home: () => buttons(row)[0], End: () => buttons(row).at(-1),
      PageDown: () => near(rows[Math.min(index + 10, rows.length - 1)]), PageUp: () => near(rows[Math.max(index - 10, 0)]),
    }[key];
  }

  for (const map of maps) {
    const all = map.querySelectorAll("button");
    all.forEach((button, at) => { button.tabIndex = at ? -1 : 0; button.disabled = false; });
    map.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) { focus(button); show(button); }
    });
    map.addEventListener("keydown", (event) => {
      const button = event.target.closest("button");
      const to = button && !event.ctrlKey && !event.altKey && !event.metaKey && move(button, event.key);
      if (!to) return;
      event.preventDefault();
      const next = to();
      if (next) focus(next);
    });
  }

  for (const choice of document.querySelectorAll("input[name=colour]")) {
    choice.addEventListener("change", () => { for (const map of maps) map.dataset.colour = choice.value; });
  }
})();
