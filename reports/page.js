"use strict";
const copyable = (within) => {
  for (const pre of within.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const range = document.createRange(), selection = getSelection();
      range.selectNodeContents(pre);
      selection.removeAllRanges();
      selection.addRange(range);
      try { await navigator.clipboard.writeText(pre.textContent); } catch { document.execCommand("copy"); }
      button.textContent = "Copied";
    });
    pre.before(button);
  }
};
(() => {
  // one table of a page can be searched, filtered by its selects (data-column, or data-row of the row) and sorted
  const table = document.querySelector("table.sortable");
  if (!table) return;
  const body = table.tBodies[0];
  const tools = document.querySelector(".tools"), selects = [...tools.querySelectorAll("select")];
  const [search, shown, all] = ["search", "shown", "all"].map((id) => document.getElementById(id));
  const choice = (row, { dataset }) => dataset.row ? row.dataset[dataset.row] : row.cells[dataset.column].textContent.trim();
  const rows = [...body.rows].map((row) => ({
    row, text: row.textContent.toLowerCase(), own: selects.map((select) => choice(row, select)),
  }));

  const most = 100;
  let order = rows, whole = false;

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { row, text, own } of order) {
      const hit = selects.every(({ value }, place) => !value || value === own[place])
        && words.every((word) => text.includes(word));
      row.hidden = !hit;
      count += hit;
      row.className = hit && count > most && !whole ? "later" : "";  // what a table has to lay out costs time
    }
    const drawn = whole ? count : Math.min(count, most);
    shown.value = `${drawn} of ${rows.length} shown` + (drawn < count ? `, ${count} found` : "");
    all.hidden = drawn === count;
  };

  const numeric = [...table.tHead.rows[0].cells].map((header) => header.classList.contains("n"));
  // a change is sorted by what it becomes; what is not known comes last, whichever way
  const key = (row, column) => {
    const cell = row.cells[column], data = cell.querySelectorAll("data"), gone = cell.textContent.trim().endsWith("–");
    if (data.length && !gone) return Number(data[data.length - 1].value);
    return numeric[column] ? null : cell.textContent.trim();
  };
  const sort = (header, column) => {
    const up = header.getAttribute("aria-sort") !== "ascending", way = up ? 1 : -1;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((each, place) => [key(each.row, column), place, each]);
    keyed.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      return way * (typeof a === "number" ? a - b : a.localeCompare(b)) || i - j;
    });
    order = keyed.map(([, , each]) => each);
    filter();
    body.append(...order.map(({ row }) => row));
  };
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sort(header, column));
    header.replaceChildren(button);
  });

  let waiting = 0;
  search.addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(filter); });
  for (const each of selects) each.addEventListener("change", filter);
  all.addEventListener("click", () => { whole = true; filter(); });
  tools.hidden = false;
  filter();
})();
(() => {
  // pictures of a large report: deflated, one text per container, taken out once the first is opened
  const packed = document.getElementById("packed");
  if (!packed) return;
  let pictures = null;
  const unpack = async () => {
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return (await new Response(inflated).text()).split("\0");
  };
  document.querySelectorAll("details.workload").forEach((each, place) => {
    each.addEventListener("toggle", async () => {
      const [into, patch] = [".figures", ".patch"].map((name) => each.querySelector(name));
      if (!each.open || into.childElementCount) return;
      pictures ??= unpack();
      [into.innerHTML, patch.innerHTML] = (await pictures)[place].split("\x01");
      copyable(patch);
    });
  });
})();
(() => {
  document.addEventListener("keydown", (event) => {
    const search = document.getElementById("search");
    if (event.key !== "/" || !search || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    search.focus();
  });
  copyable(document);
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    for (let up = target && target.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  if (location.hash) open();
})();
