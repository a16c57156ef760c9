"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const cell = row => row.cells[column];
    const order = (a, b) => head.classList.contains("n")
      ? Number(cell(a).dataset.v) - Number(cell(b).dataset.v)
      : cell(a).textContent.localeCompare(cell(b).textContent, undefined, { numeric: true });
    // What a column has no figure for ("no estimate", nothing) comes last either way.
    const known = row => head.classList.contains("n")
      ? "v" in cell(row).dataset && cell(row).dataset.v !== "nan" : cell(row).textContent !== "";
    const rows = [...table.tBodies[0].rows];
    const sorted = rows.filter(known).sort((a, b) => up ? order(a, b) : order(b, a));
    table.tBodies[0].append(...sorted, ...rows.filter(row => !known(row)));
  }));
}
