// One slider per coefficient and per face control of the chosen identity; they write to the store, the viewport follows.
const grids = { lip: element.querySelector('[data-group="lip"] .grid'), exp: element.querySelector('[data-group="exp"] .grid'), face: element.querySelector('[data-group="face"] .grid') };
const showRows = []; // a function per slider that shows the store's value

// group is lip, exp, blink or face, index the coefficient's place in it; low and high end the slider. usualRange: where speech
// keeps this coefficient, [low, high]; mean: where it is on average.
function addRow(group, index, id, label, low, high, about = "", usualRange = null, mean = null) {
  const row = document.createElement("div");
  row.className = "row";
  row.innerHTML = `<label></label><button type="button" class="value"></button><input type="range" step="0.01">`;
  const [name, valueButton, input] = row.children; // the button shows the value and resets it
  const percent = (value) => `${(100 * (store.clamp(value, low, high) - low)) / (high - low)}%`;
  Object.assign(name, { htmlFor: `dg-${id}`, textContent: label, title: about ? `${label}\n${about}` : label });
  Object.assign(input, { id: `dg-${id}`, min: low, max: high });
  valueButton.setAttribute("aria-label", `Reset ${label}`);
  if (usualRange) {
    row.classList.add("usual");
    ["--low", "--high"].forEach((edge, i) => input.style.setProperty(edge, percent(usualRange[i])));
  }
  if (mean !== null) {
    row.classList.add("mean");
    input.style.setProperty("--mean", percent(mean));
  }
  const current = () => (group === "blink" ? store.state.blink : store.state[group][index]);
  const show = () => {
    const value = current();
    if (Number(input.value) !== value) input.value = value;
    const sign = value > 0 ? "+" : value < 0 ? "−" : "";
    valueButton.textContent = low === 0 ? value.toFixed(2) : `${sign}${Math.abs(value).toFixed(2)}`;
    input.style.setProperty("--from", percent(Math.min(0, value)));
    input.style.setProperty("--to", percent(Math.max(0, value)));
    row.classList.toggle("set", value !== 0);
    valueButton.tabIndex = value === 0 ? -1 : 0;
  };
  const set = (value) => { store.setCoefficient(group, index, value); show(); };
  input.addEventListener("input", () => set(Math.abs(input.value) < 0.04 ? 0 : Number(input.value))); // zero is easy to find again
  input.addEventListener("keydown", (event) => { // the range's own step of 0.01 would never leave zero
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!steps) return;
    event.preventDefault();
    set(store.clamp(Math.round(10 * (current() + 0.1 * steps)) / 10, low, high));
  });
  input.addEventListener("dblclick", () => set(0));
  valueButton.addEventListener("click", () => set(0));
  grids[group === "blink" ? "exp" : group].append(row);
  showRows.push(show);
  show();
}

function buildRows() {
  showRows.length = 0;
  for (const grid of Object.values(grids)) grid.replaceChildren();
  const { identity } = store.state;
  if (!identity) {
    sheet.hidden = true;
    grids.face.closest("section").hidden = true;
    for (const grid of Object.values(grids)) grid.innerHTML = '<p class="waiting">Pick an identity to see its controls.</p>';
    return;
  }
  const limit = store.limits.coefficient;
  const add = (group) => (name, i) =>
    addRow(
      group, i, name, label(name), ...(identity.limits?.[name] ?? [-limit, limit]),
      identity.about?.[name], identity.ranges?.[name], identity.means?.[name] ?? null,
    );
  identity.lip_names.forEach(add("lip"));
  addRow("blink", 0, "blink", "Blink", 0, 1);
  identity.exp_names.forEach(add("exp"));
  const faceNames = identity.face_names ?? [];
  grids.face.closest("section").hidden = !faceNames.length;
  faceNames.forEach((name, i) => addRow("face", i, name, identity.labels[name], 0, 1, identity.about?.[name]));
  sheet.hidden = !identity.sheet;
  element.querySelector(".usual-note").hidden = !Object.keys(identity.ranges ?? {}).length;
  sheet.querySelector(".rows").replaceChildren();
  if (sheet.open) showSheet();
}

const label = (name) => {
  const given = store.state.identity.labels?.[name];
  if (given?.includes("·")) return given[0].toUpperCase() + given.slice(1); // with the name of what it does
  return name.replace(/^exp(\d+)$/, "Expression $1").replace(/^lip(\d+)$/, "Lip $1");
};

// One sheet of pictures per identity, fetched when first looked at: each coefficient shows its row of it, a strip.
const sheet = element.querySelector(".sheet");
async function showSheet() {
  const { identity } = store.state, holder = sheet.querySelector(".rows");
  if (!identity?.sheet || holder.childElementCount) return;
  const note = document.createElement("p");
  note.className = "waiting";
  note.textContent = "Fetching the pictures…";
  holder.replaceChildren(note);
  let answer;
  try { answer = await server.coefficient_sheet(identity.name); } catch { answer = null; }
  if (store.state.identity !== identity) return; // another one was chosen meanwhile
  if (!answer?.image) {
    note.textContent = answer?.problem ?? "The connection was lost: close this and open it again.";
    return sheet.addEventListener("toggle", () => holder.replaceChildren(), { once: true }); // closing makes room for another try
  }
  const { steps, cell, left, top } = identity.sheet;
  const names = [...identity.exp_names, ...identity.lip_names]; // the sheet's rows
  const width = left + cell * steps.length, height = top + cell * names.length;
  holder.replaceChildren(...[...identity.lip_names, ...identity.exp_names].map((name) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), strip = document.createElement("div");
    caption.textContent = label(name);
    caption.title = identity.about?.[name] ?? "";
    strip.className = "strip";
    strip.dataset.name = name;
    strip.setAttribute("role", "img");
    strip.setAttribute("aria-label", `${label(name)}, from ${steps[0]} to ${steps.at(-1)}`);
    Object.assign(strip.style, {
      aspectRatio: `${steps.length} / 1`,
      backgroundImage: `url(${answer.image})`,
      backgroundSize: `${(100 * width) / (cell * steps.length)}% auto`,
      backgroundPosition: `100% ${(100 * (top + cell * names.indexOf(name))) / (height - cell)}%`,
    });
    const group = name.slice(0, 3), index = identity[`${group}_names`].indexOf(name);
    strip.addEventListener("click", (event) => {
      const box = strip.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * steps.length);
      store.setCoefficient(group, index, steps[store.clamp(column, 0, steps.length - 1)]);
      showRows.forEach((show) => show());
    });
    figure.append(caption, strip);
    return figure;
  }));
}
sheet.addEventListener("toggle", () => { if (sheet.open) showSheet(); });

element.addEventListener("click", (event) => {
  const group = event.target.closest("[data-reset]")?.dataset.reset;
  if (group) store.reset(group);
});
store.subscribe((what) => {
  if (what === "identity") buildRows();
  if (what === "reset") showRows.forEach((show) => show());
});
buildRows();
