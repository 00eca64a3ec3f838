// Each figure once, with all its rows.
async function show() {
  for (const figure of data.figures) {
    const datasets = Object.fromEntries(Object.entries(figure.tables).map(([name, from]) => [name, data.tables[from]]));
    const each = framed("", { ...figure.spec, description: figure.title }, datasets);
    document.getElementById(`cards-${figure.name}`).replaceChildren(each.card);
    await embed(each);
  }
  document.body.dataset.drawn = 1;
}

show();
