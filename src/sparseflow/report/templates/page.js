"use strict";
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const raw = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const number = Number(raw);
      return raw === "" ? -Infinity : Number.isNaN(number) ? raw : number;
    };
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    });
    body.append(...(down ? rows.reverse() : rows));
  });
}
document.querySelector("#save")?.addEventListener("click", () => {
  const text = document.querySelector("#data").textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(JSON.parse(text), null, 2)], { type: "application/json" }));
  link.download = "report.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
for (const box of document.querySelectorAll("[data-toggle]")) {
  box.addEventListener("change", () => {
    document.getElementById(box.dataset.toggle).style.display = box.checked ? "" : "none";
  });
}
const slotted = [...document.querySelectorAll("[data-slot]")];
for (const part of slotted) {
  const own = new Set(part.dataset.slot.split(" "));
  part.addEventListener("mouseenter", () => {
    for (const other of slotted) other.classList.toggle("dim", !other.dataset.slot.split(" ").some((s) => own.has(s)));
  });
  part.addEventListener("mouseleave", () => {
    for (const other of slotted) other.classList.remove("dim");
  });
}
