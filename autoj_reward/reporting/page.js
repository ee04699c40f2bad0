// SPDX-License-Identifier: Apache-2.0
// Search, filter and sort the rows of a report, and open the one that a link names. It only hides, opens and
// moves elements: texts stay texts.
"use strict";
for (const rows of document.querySelectorAll(".rows")) {
  const tools = rows.querySelector(".tools");
  const cases = [...rows.querySelectorAll(":scope > .case")];
  const field = (name) => tools.elements.namedItem(name);
  const texts = new Map();
  const text = (item) => {
    if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
    return texts.get(item);
  };
  const number = (item, name) => (name in item.dataset ? Number(item.dataset[name]) : NaN);
  const update = () => {
    const words = field("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = field("kind").value;
    const group = field("group") ? field("group").value : "";
    const [name, way] = field("sort").value.split(" ");
    let n = 0;
    for (const item of cases) {
      const fits = (!kind || item.dataset.kinds.split(" ").includes(kind))
        && (!group || item.dataset.group === group)
        && words.every((word) => text(item).includes(word));
      item.hidden = !fits;
      n += fits;
    }
    const sorted = [...cases].sort((a, b) => {
      const [x, y] = [number(a, name), number(b, name)];
      // Rows without the number come last in both directions.
      return Number.isNaN(x) - Number.isNaN(y) || (x - y) * way || number(a, "place") - number(b, "place");
    });
    rows.append(...sorted);
    tools.querySelector("output").textContent = `${n} of ${cases.length} shown`;
  };
  field("fold").addEventListener("click", () => {
    const shown = cases.filter((item) => !item.hidden);
    const open = !shown.every((item) => item.open);
    for (const item of shown) item.open = open;
    field("fold").textContent = open ? "Close all shown" : "Open all shown";
  });
  tools.addEventListener("input", update);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  update();
}
const follow = () => {
  const item = document.getElementById(location.hash.slice(1));
  if (!(item instanceof HTMLDetailsElement)) return;
  item.hidden = false;
  item.open = true;
  item.scrollIntoView();
};
addEventListener("hashchange", follow);
follow();
