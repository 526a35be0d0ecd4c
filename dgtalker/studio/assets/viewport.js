// The live picture: one request in flight, latest wins, small while moving and full when still.
const canvas = element.querySelector("canvas");
const overlay = element.querySelector(".overlay");
const overlayText = element.querySelector(".overlay-text");
const readout = { dot: element.querySelector(".dot"), engine: element.querySelector(".engine"), fps: element.querySelector(".fps") };
const context = canvas.getContext("2d", { alpha: false });
const STILL_MS = 140; // without a change: then the picture is drawn at full size
const BUDGET_MS = 36; // from asking to painting, for a moving frame: 25 pictures a second and some to spare
const MOVING_SIZES = [192, 256, 320, 384];
let movingSize = 256, slow = 0, fast = 0; // pixels; pictures in a row that came late, or early
let busy = false, dirty = false; // a request is in flight; something changed meanwhile
let lastChange = 0, nextTimer = 0, retryMs = 0, drawn = 0;
const paints = []; // times of the last second's pictures
const latencies = []; // input to paint, ms; read by the tests
canvas.dgtalkerLatencies = latencies;

const fullSize = () => Math.min(640, Math.max(384, Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 1.5) / 64) * 64));

function showMessage(text, isError = false) {
  overlay.classList.toggle("hidden", !text);
  overlay.classList.toggle("error", isError);
  readout.dot.classList.toggle("bad", isError);
  if (text) overlayText.textContent = text;
}

async function paint(reply) {
  const bytes = Uint8Array.from(atob(reply.jpeg), (c) => c.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
  if (canvas.width !== reply.size) canvas.width = canvas.height = reply.size;
  context.drawImage(picture, 0, 0);
  picture.close();
  canvas.dataset.drawn = ++drawn;
  canvas.dataset.size = reply.size;
  const now = performance.now();
  paints.push(now);
  while (paints[0] < now - 1000) paints.shift();
  const { identity, yaw, pitch } = store.state;
  canvas.setAttribute("aria-label", `Live view of ${identity.name}, camera turned ${Math.round(yaw)}° and raised ${Math.round(pitch)}°`);
  showMessage("");
}

function adaptMovingSize(ms, size) { // keep moving frames inside the budget
  const at = MOVING_SIZES.indexOf(size);
  if (at < 0) return;
  slow = ms > BUDGET_MS ? slow + 1 : 0;
  fast = ms < BUDGET_MS * 0.5 ? fast + 1 : 0;
  if (slow >= 3 && at > 0) { movingSize = MOVING_SIZES[at - 1]; slow = fast = 0; }
  if (fast >= 8 && at < MOVING_SIZES.length - 1) { movingSize = MOVING_SIZES[at + 1]; slow = fast = 0; }
}

// Asks for pictures until the one shown is that of the store.
async function refresh() {
  if (busy) { dirty = true; return; }
  if (!store.state.identity) return;
  busy = true;
  clearTimeout(nextTimer);
  try {
    do {
      dirty = false;
      const moving = performance.now() - lastChange < STILL_MS;
      const size = moving ? movingSize : fullSize();
      const changed = lastChange, asked = performance.now();
      const reply = await server.frame(store.view({ size }));
      if (reply?.problem) { showMessage(reply.problem, true); break; }
      if (!reply?.jpeg) throw new Error("no answer");
      await paint(reply);
      retryMs = 0;
      if (moving) {
        latencies.push(performance.now() - changed);
        if (latencies.length > 2000) latencies.shift();
        adaptMovingSize(performance.now() - asked, size);
        readout.fps.textContent = paints.length > 4 ? `${paints.length} fps` : `${Math.round(reply.ms)} ms`;
      } else {
        readout.fps.textContent = `${reply.size}² · ${Math.round(reply.ms)} ms`;
      }
      if (moving && !dirty) nextTimer = setTimeout(refresh, STILL_MS);
    } while (dirty);
  } catch (error) { // the server is away: keep the last picture, try again by ourselves
    retryMs = Math.min(8000, (retryMs || 500) * 2);
    showMessage("The connection was lost. Trying again…", true);
    nextTimer = setTimeout(refresh, retryMs);
  } finally {
    busy = false;
  }
}

function onChange() {
  lastChange = performance.now();
  refresh();
}

// -- orbit: mouse, pen and touch ------------------------------------------------------------------
const pointers = new Map();
const pinchDistance = () => {
  const [a, b] = [...pointers.values()];
  return Math.hypot(a.x - b.x, a.y - b.y);
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const { yaw, pitch, zoom } = store.state;
  const degrees = 200 / canvas.clientWidth;
  if (pointers.size === 1) {
    store.setCamera({ yaw: yaw - (event.clientX - before.x) * degrees, pitch: pitch + (event.clientY - before.y) * degrees });
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  } else if (pointers.size === 2) {
    const old = pinchDistance();
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    store.setCamera({ zoom: (zoom * pinchDistance()) / Math.max(old, 1) });
  }
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  store.setCamera({ zoom: store.state.zoom * Math.exp(-event.deltaY * 0.0012) });
}, { passive: false });
canvas.addEventListener("dblclick", () => store.setCamera({ yaw: 0, pitch: 0, zoom: 1 }));

const actions = {
  left: () => store.setCamera({ yaw: -40, pitch: 0 }),
  right: () => store.setCamera({ yaw: 40, pitch: 0 }),
  front: () => store.setCamera({ yaw: 0, pitch: 0, zoom: 1 }),
  in: () => store.setCamera({ zoom: store.state.zoom * 1.15 }),
  out: () => store.setCamera({ zoom: store.state.zoom / 1.15 }),
  snapshot: () => download(server.snapshot(store.view({ size: 768 }))),
  export: () => download(server.export(store.view())),
};
const keys = {
  ArrowLeft: () => store.setCamera({ yaw: store.state.yaw - 5 }),
  ArrowRight: () => store.setCamera({ yaw: store.state.yaw + 5 }),
  ArrowUp: () => store.setCamera({ pitch: store.state.pitch + 5 }),
  ArrowDown: () => store.setCamera({ pitch: store.state.pitch - 5 }),
  Home: actions.front, "+": actions.in, "=": actions.in, "-": actions.out,
};
canvas.addEventListener("keydown", (event) => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
element.querySelector(".tools").addEventListener("click", (event) => actions[event.target.closest("button")?.dataset.do]?.());

async function download(request) {
  try {
    const file = await request;
    if (file?.problem) return showMessage(file.problem, true);
    if (!file?.data) throw new Error("no answer");
    const link = document.createElement("a");
    link.href = `data:${file.mime};base64,${file.data}`;
    link.download = file.name;
    link.click();
  } catch {
    showMessage("The file could not be saved: the connection was lost.", true);
    setTimeout(refresh, 1500);
  }
}

server.badges().then((badges) => { readout.engine.textContent = badges?.device ? `${badges.device} · ${badges.renderer}` : ""; }).catch(() => {});
store.subscribe((what) => {
  if (what === "failed") return showMessage(store.failure, true);
  if (what === "identity" && !drawn) showMessage("Waking the head up…");
  if (what === "coefficients" && !canvas.offsetParent) document.querySelector("#dg-tabs [role=tab]")?.click(); // show it
  onChange();
});
if (store.state.identity) onChange();
