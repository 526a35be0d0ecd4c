// One slider per coefficient of the chosen identity; they write to the store, the viewport follows.
const grids = { lip: element.querySelector('[data-group="lip"] .grid'), exp: element.querySelector('[data-group="exp"] .grid') };
const rows = [];

function addRow(group, index, id, label, low, high) {
  const row = document.createElement("div");
  row.className = "row";
  row.innerHTML = `<label></label><button type="button" class="value"></button><input type="range" step="0.01">`;
  const [name, value, input] = row.children;
  Object.assign(name, { htmlFor: `dg-${id}`, textContent: label });
  Object.assign(input, { id: `dg-${id}`, min: low, max: high });
  value.setAttribute("aria-label", `Reset ${label}`);
  const current = () => (group === "blink" ? store.state.blink : store.state[group][index]);
  const show = () => {
    const at = current(), percent = (x) => `${(100 * (x - low)) / (high - low)}%`;
    if (Number(input.value) !== at) input.value = at;
    value.textContent = group === "blink" ? at.toFixed(2) : `${at > 0 ? "+" : at < 0 ? "−" : ""}${Math.abs(at).toFixed(2)}`;
    input.style.setProperty("--from", percent(Math.min(0, at)));
    input.style.setProperty("--to", percent(Math.max(0, at)));
    row.classList.toggle("set", at !== 0);
    value.tabIndex = at === 0 ? -1 : 0;
  };
  const set = (at) => { store.setCoefficient(group, index, at); show(); };
  input.addEventListener("input", () => set(Math.abs(input.value) < 0.04 ? 0 : Number(input.value))); // zero is easy to find again
  input.addEventListener("dblclick", () => set(0));
  value.addEventListener("click", () => set(0));
  grids[group === "blink" ? "exp" : group].append(row);
  rows.push(show);
  show();
}

function build() {
  rows.length = 0;
  for (const grid of Object.values(grids)) grid.replaceChildren();
  const { identity } = store.state;
  if (!identity) {
    for (const grid of Object.values(grids)) grid.innerHTML = '<p class="waiting">Pick an identity to see its controls.</p>';
    return;
  }
  const limit = store.limits.coefficient;
  const pretty = (name) => name.replace(/^exp(\d+)$/, "Expression $1").replace(/^lip(\d+)$/, "Lip $1");
  identity.lip_names.forEach((name, i) => addRow("lip", i, name, pretty(name), -limit, limit));
  addRow("blink", 0, "blink", "Blink", 0, 1);
  identity.exp_names.forEach((name, i) => addRow("exp", i, name, pretty(name), -limit, limit));
}

element.addEventListener("click", (event) => {
  const group = event.target.closest("[data-reset]")?.dataset.reset;
  if (group) store.reset(group);
});
store.subscribe((what) => {
  if (what === "identity") build();
  if (what === "reset") rows.forEach((show) => show());
});
build();
