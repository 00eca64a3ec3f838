// What is chosen is shown: rows of tables, columns of the matrix, figures of each setting.
const filters = document.getElementById("filters");
const MOST = 12; // figures of one kind at a time

const unfolded = Object.fromEntries(Object.entries(data.tables).map(([name, columns]) => {
  const names = Object.keys(columns).filter((each) => each !== "setting" && each !== "strategy");
  const rows = columns.setting.map((setting, at) => {
    const { label, ...own } = data.settings[setting] ?? { label: columns.over[at] }; // a row of several settings
    const row = { ...own, setting: label, s: setting, g: columns.strategy[at], strategy: data.strategies[columns.strategy[at]] };
    for (const each of names) row[each] = columns[each][at];
    return row;
  });
  return [name, rows];
}));

function chosen() {
  const sets = {};
  for (const field of filters.querySelectorAll("fieldset")) {
    sets[field.dataset.filter] = new Set([...field.querySelectorAll("input:checked")].map((each) => each.value));
  }
  const settings = new Set();
  data.settings.forEach((setting, at) => {
    const fits = Object.entries(sets).every(([name, set]) => name === "strategy" || set.has(String(setting[name])));
    if (fits) settings.add(at);
  });
  const strategies = new Set(data.strategies.flatMap((name, at) => (sets.strategy.has(name) ? [at] : [])));
  return { settings, strategies };
}

let turn = 0;
async function show() {
  const mine = ++turn;
  const { settings, strategies } = chosen();
  for (const each of document.querySelectorAll("main [data-s], main [data-g]")) {
    const { s, g } = each.dataset;
    each.hidden = (s !== undefined && !settings.has(Number(s))) || (g !== undefined && !strategies.has(Number(g)));
  }
  document.getElementById("count").textContent =
    `${settings.size} of ${data.settings.length} settings, ${strategies.size} of ${data.strategies.length} strategies`;
  for (const figure of data.figures) {
    if (mine !== turn) return; // something else was chosen meanwhile
    await draw(figure, settings, strategies);
  }
  if (mine === turn) document.body.dataset.drawn = mine;
}

async function draw(figure, settings, strategies) {
  const place = document.getElementById(`cards-${figure.name}`);
  const fits = (row) => (row.s === null || settings.has(row.s)) && strategies.has(row.g);
  const tables = Object.entries(figure.tables).map(([name, from]) => [name, unfolded[from].filter(fits)]);
  const key = { setting: (row) => row.setting, curve: (row) => row.curve, all: () => "" }[figure.each];
  let titles = [...new Set(tables.flatMap(([, rows]) => rows.map(key)))];
  if (figure.each === "curve") {
    titles = titles.filter((title) => new Set(tables[0][1].filter((row) => key(row) === title).map((row) => row.labeled)).size > 1);
  }
  const note = place.parentElement.querySelector(".note");
  note.hidden = titles.length <= MOST;
  note.textContent = `The first ${MOST} of ${titles.length} are drawn: filter to see others.`;
  place.classList.toggle("whole", figure.each === "all");
  const cards = [];
  for (const title of titles.slice(0, MOST)) {
    const datasets = Object.fromEntries(tables.map(([name, rows]) => [name, rows.filter((row) => key(row) === title)]));
    const lines = new Set(Object.values(datasets).flat().map((row) => (figure.each === "all" ? row.setting : row.strategy)));
    const height = figure.spec.height.step ? figure.spec.height.step * lines.size : figure.spec.height;
    cards.push(framed(title, { ...figure.spec, height }, datasets));
  }
  for (const view of place.views ?? []) view.finalize();
  place.views = [];
  place.replaceChildren(...cards.map(({ card }) => card));
  for (const each of cards) place.views.push(await embed(each));
}

filters.addEventListener("change", show);
filters.addEventListener("reset", () => setTimeout(show));
filters.addEventListener("submit", (event) => event.preventDefault());
show();
