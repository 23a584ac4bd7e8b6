"use strict";
for (const section of document.querySelectorAll("section.table")) {
  const body = section.querySelector("tbody");
  const heads = [...section.querySelectorAll("th")];
  const original = [...body.rows];
  const key = (row, place) => {
    const cell = row.cells[place];
    return cell.dataset.sort === undefined ? { text: cell.textContent.trim() } : { number: Number(cell.dataset.sort) };
  };
  const compare = (one, other) => {
    if (one.number !== undefined && other.number !== undefined) return one.number - other.number;
    // figures come before what has none
    if (one.number !== undefined || other.number !== undefined) return one.number !== undefined ? -1 : 1;
    return one.text.localeCompare(other.text, undefined, { numeric: true });
  };
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
    for (const other of heads) other.removeAttribute("aria-sort");
    if (next !== "none") head.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    const rows = next === "none" ? original : [...original].sort((one, other) => sign * compare(key(one, place), key(other, place)));
    body.append(...rows);
  }));
  const filter = section.querySelector(".filter input");
  if (filter) filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of original) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
}
