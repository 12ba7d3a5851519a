"use strict";
// Tables read whole without this; with it they sort by any column and filter.

function valueOf(row, column) {
  const cell = row.cells[column];
  const order = cell.dataset.order;
  if (order === undefined) return cell.textContent.trim();
  return order === "" ? null : Number(order);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, column, descending) {
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // gaps last, whichever way
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort");
      const numeric = header.classList.contains("n");
      const descending = now ? now === "ascending" : numeric; // figures start with the largest
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, column, descending);
    });
  });
}

function makeFilterable(filters) {
  const rows = [...filters.parentElement.querySelector("table").tBodies[0].rows];
  const search = filters.querySelector("input");
  const selects = [...filters.querySelectorAll("select")];
  const said = filters.querySelector("output");
  const textOf = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  for (const select of selects) {
    const values = new Set(rows.map((row) => row.cells[select.dataset.column].textContent.trim()));
    for (const value of [...values].sort()) select.add(new Option(value, value));
  }
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => textOf.get(row).includes(word)) &&
        selects.every((s) => !s.value || row.cells[s.dataset.column].textContent.trim() === s.value);
      row.hidden = !fits;
      shown += fits;
    }
    said.textContent = `${shown} of ${rows.length} shown`;
  };
  filters.addEventListener("input", apply);
  filters.hidden = false;
  apply();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll(".filters").forEach(makeFilterable);
