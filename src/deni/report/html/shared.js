// What the pages share: figures in their frames, tables that sort. Names only ever become text.
const data = JSON.parse(document.getElementById("data").textContent);

function framed(title, spec, datasets) {
  const card = document.createElement("figure");
  card.className = "card";
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const chart = document.createElement("div");
  chart.className = "chart";
  if (title) card.append(caption);
  card.append(chart);
  return { card, chart, spec: { ...spec, description: title || spec.description, datasets: { ...spec.datasets, ...datasets } } };
}

function embed({ chart, spec }) {
  // Errors only: a front of strategies that are all filtered away has no extent, and that is no mistake.
  const options = { logLevel: 1, renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "page", disableDefaultStyle: true } };
  return vegaEmbed(chart, spec, options).then((drawn) => {
    for (const marks of chart.querySelectorAll("g[role=graphics-symbol]:not([aria-label])")) {  // each mark has a name, their group none
      marks.removeAttribute("role");
      marks.removeAttribute("aria-roledescription");
    }
    return drawn;
  });
}

function leading(text) {
  const found = text.replaceAll(",", "").replace("∞", "1e300").match(/^\s*[-+]?[\d.]+(e\d+)?/);
  return found ? Number(found[0]) : null;
}

function sort(table, place, down) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => {
    const text = row.cells[place].textContent.trim();
    return { row, text, value: leading(text) };
  });
  const missing = (each) => each.text === "–" || each.text === "";
  const numbers = rows.every((each) => each.value !== null || missing(each));
  rows.sort((one, other) => {
    if (missing(one) || missing(other)) return missing(one) - missing(other); // last, either way
    const order = numbers ? one.value - other.value : one.text.localeCompare(other.text, "en", { numeric: true });
    return down ? -order : order;
  });
  body.append(...rows.map((each) => each.row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const number = head.classList.contains("number"); // the largest first, names from A on
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : number;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table, place, down);
    });
  });
}

addEventListener("beforeprint", () => document.querySelectorAll("main section details").forEach((each) => { each.open = true; }));
