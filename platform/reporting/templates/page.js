"use strict";
const pageData = JSON.parse(document.getElementById("page-data").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// Expressions are interpreted because the page's security policy forbids eval.
const options = (isDark) => ({
  config: isDark ? pageData.dark : pageData.light, renderer: "svg", actions: false, ast: true,
  tooltip: { theme: isDark ? "dark" : "light" },
});

const drawn = {};
async function draw(isDark) {
  for (const element of document.querySelectorAll(".chart")) {
    const key = element.dataset.chart;
    const before = drawn[key];
    drawn[key] = await vegaEmbed(element, pageData.charts[key].spec, options(isDark));
    if (before) before.finalize();
  }
  document.documentElement.dataset.drawn = isDark ? "dark" : "light";
}

// A saved chart has the light theme, a fixed width and its title, whatever the page looks like.
async function save(key, type) {
  const chart = pageData.charts[key], place = document.createElement("div");
  const spec = { ...chart.spec, width: pageData.width, title: chart.title, background: "white" };
  const { view, finalize } = await vegaEmbed(place, spec, options(false));
  const link = document.createElement("a");
  link.href = await view.toImageURL(type, 2);
  link.download = `${pageData.name}-${key}.${type}`;
  link.click();
  finalize();
}

function sort(button) {
  const header = button.closest("th"), table = header.closest("table"), body = table.tBodies[0];
  const column = [...header.parentNode.children].indexOf(header);
  const down = header.getAttribute("aria-sort") !== "descending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const known = (text) => text !== "" && text !== "–";
  const rows = [...body.rows].sort((one, other) => {
    const a = value(one), b = value(other);
    if (!known(a) || !known(b)) return known(b) - known(a);
    const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    return down ? -order : order;
  });
  body.append(...rows);
}

// Show the rows and items below the field that contain the text in it.
function search(field) {
  const sought = field.value.trim().toLowerCase(), place = field.closest(".search");
  const all = place.nextElementSibling.querySelectorAll("tbody tr, .item");
  let found = 0;
  for (const one of all) {
    one.hidden = !one.textContent.toLowerCase().includes(sought);
    found += !one.hidden;
  }
  place.querySelector("output").textContent = sought ? `${found} of ${all.length}` : "";
}

document.addEventListener("input", (event) => {
  if (event.target.dataset.search !== undefined) search(event.target);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.save) save(button.dataset.key, button.dataset.save);
  else if (button?.dataset.sort !== undefined) sort(button);
});
dark.addEventListener("change", (event) => draw(event.matches));
draw(dark.matches);
