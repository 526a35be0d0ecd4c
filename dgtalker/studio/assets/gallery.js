// The gallery: a card with a face per identity, one of them chosen.
const cards = element.querySelector(".cards");
let chosen = null;

async function choose(name) {
  chosen = name;
  markChosen();
  try {
    const identity = await server.describe(name);
    if (chosen !== name) return; // a later click won
    if (identity?.problem) throw new Error(identity.problem);
    if (!identity?.lip_names) throw new Error("The connection was lost: pick the identity again.");
    store.setIdentity(identity);
  } catch (error) {
    store.fail(error.message || "This identity could not be opened: try again.");
    if (chosen === name) { chosen = store.state.identity?.name ?? null; markChosen(); }
  }
}

function markChosen() {
  for (const card of cards.querySelectorAll(".card")) {
    const on = card.dataset.name === chosen;
    card.setAttribute("aria-checked", on);
    card.tabIndex = on || (!chosen && card === cards.firstChild) ? 0 : -1;
  }
}

function buildCards() {
  const identities = props.value ?? [];
  cards.replaceChildren();
  if (!identities.length) {
    const note = document.createElement("p");
    note.className = "empty";
    note.textContent = "No identity is installed yet: make one with “python -m dgtalker create-identity”, then reload.";
    cards.append(note);
    return store.fail("There is no head to show yet.");
  }
  for (const { name, title, preview } of identities) {
    const card = document.createElement("button");
    Object.assign(card, { type: "button", className: "card" });
    card.dataset.name = name;
    card.setAttribute("role", "radio");
    const face = document.createElement(preview ? "img" : "span");
    face.className = preview ? "face" : "face none";
    if (preview) Object.assign(face, { src: preview, alt: "", draggable: false });
    else face.textContent = title[0].toUpperCase();
    const label = document.createElement("span");
    label.className = "name";
    label.textContent = title;
    card.title = title;
    card.append(face, label);
    cards.append(card);
  }
  markChosen();
  const names = identities.map((identity) => identity.name);
  if (!names.includes(chosen)) choose(names.includes(store.requestedIdentity) ? store.requestedIdentity : names[0]);
}

cards.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (card && card.dataset.name !== chosen) choose(card.dataset.name);
});
cards.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...cards.querySelectorAll(".card")];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  next.focus();
  choose(next.dataset.name);
});
store.subscribe((what) => { if (what === "requestedIdentity" && store.requestedIdentity !== chosen) choose(store.requestedIdentity); });
watch("value", buildCards);
buildCards();
