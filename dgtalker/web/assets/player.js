import { Head } from "./head.js";
import { Viewport } from "./viewport.js";

const byId = (id) => document.getElementById(id);
const root = byId("player"), audio = new Audio();
const talk = JSON.parse(byId("talk-data").textContent);
const EASE_SECONDS = 0.18; // from rest into the speech and back
const SOFTWARE_SIDE = 320; // pixels, where there is no graphics card
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// -- data -------------------------------------------------------------------------------------------------------------------------

function decode(id) {
  const element = byId(id), text = atob(element.textContent), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  element.remove(); // the text is not needed again
  return bytes;
}

// Curves [frames, exp + lip + blink + controls]; `at` interpolates between the middles of the frames.
class Curves {
  constructor(buffer, head) {
    this.table = new Float32Array(buffer);
    this.parts = [head.exp.length, head.lip.length, 1, head.controls.length];
    this.columns = this.parts.reduce((sum, count) => sum + count);
    if (this.table.length !== talk.frames * this.columns) throw new Error("The page is damaged: its curves do not fit its head.");
  }

  // {exp, lip, blink, controls} at `seconds`, as far from rest as `share` in 0..1 says.
  at(seconds, share = 1) {
    const place = Math.min(Math.max(seconds * talk.fps - 0.5, 0), talk.frames - 1);
    const first = Math.floor(place), next = Math.min(first + 1, talk.frames - 1), part = place - first;
    const row = Array.from({ length: this.columns }, (_, k) =>
      share * ((1 - part) * this.table[first * this.columns + k] + part * this.table[next * this.columns + k]));
    const [exp, lip, blink, controls] = this.parts.map((count) => row.splice(0, count));
    return { exp, lip, blink: blink[0], controls };
  }
}

// The element's clock between its steps: some browsers move it only a few times a second.
class Clock {
  constructor() { this.seen = 0; this.since = 0; }

  now() {
    const { currentTime } = audio, time = performance.now();
    if (audio.paused || currentTime !== this.seen) {
      this.seen = currentTime;
      this.since = time;
      return currentTime;
    }
    return currentTime + Math.min((time - this.since) / 1000, 0.2) * audio.playbackRate;
  }
}

// Blinks of a face that waits: log-normal intervals, 17 a minute; a quick fall and a slow rise (dgtalker/performance/blinks.py).
class IdleBlinks {
  constructor() { this.next = performance.now() / 1000 + 1.5; }

  value() {
    const now = performance.now() / 1000, passed = now - this.next, fall = 0.1, rise = 0.25;
    if (calm.matches) return 0;
    if (passed > rise) {
      const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
      this.next = now + Math.max(0.6, (60 / 17) * Math.exp(0.7 * normal - 0.245));
      return 0;
    }
    const lid = Math.min(1 + passed / fall, 1 - Math.max(passed, 0) / rise);
    return lid <= 0 ? 0 : lid * lid * (3 - 2 * lid);
  }
}

// -- the page's parts ---------------------------------------------------------------------------------------------------------------

function showNotice(text) {
  byId("notice").hidden = !text;
  byId("notice").textContent = text;
}

const clockText = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const length = () => (Number.isFinite(audio.duration) ? audio.duration : talk.frames / talk.fps);

function showTime() {
  if (!seeking) byId("seek").value = audio.currentTime;
  byId("time").textContent = `${clockText(audio.currentTime)} / ${clockText(length())}`;
  byId("seek").setAttribute("aria-valuetext", `${clockText(audio.currentTime)} of ${clockText(length())}`);
}

let seeking = false;

function prepareSound() {
  audio.preload = "auto";
  audio.src = URL.createObjectURL(new Blob([decode("sound-data")], { type: talk.sound }));
  audio.preservesPitch = true;
  const toggle = () => {
    if (!audio.paused) return audio.pause();
    if (audio.ended) audio.currentTime = 0;
    audio.play().catch((error) => { if (error.name !== "AbortError") showNotice("The browser does not play this sound: try another browser."); });
  };
  const seek = byId("seek"), play = byId("play"), start = byId("start");
  for (const element of [seek, play, start]) element.disabled = false;
  seek.max = length();
  play.addEventListener("click", toggle);
  start.addEventListener("click", () => { toggle(); play.focus({ preventScroll: true }); });
  seek.addEventListener("input", () => { seeking = true; audio.currentTime = Number(seek.value); });
  seek.addEventListener("change", () => { seeking = false; });
  byId("loop").addEventListener("click", (event) => {
    audio.loop = !audio.loop;
    event.currentTarget.setAttribute("aria-pressed", audio.loop);
  });
  byId("volume").addEventListener("input", (event) => { audio.volume = Number(event.target.value); });
  byId("speed").addEventListener("change", (event) => { audio.playbackRate = Number(event.target.value); });
  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, () => {
    root.classList.toggle("playing", !audio.paused);
    if (!audio.paused) root.classList.add("started");
    if (audio.ended) root.classList.remove("started");
    play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  });
  audio.addEventListener("durationchange", () => { seek.max = length(); showTime(); });
  for (const name of ["timeupdate", "seeked"]) audio.addEventListener(name, showTime);
  audio.addEventListener("error", () => showNotice("The sound of this page cannot be played here: try another browser."));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, select, summary, a, input:not([type=range])")) return;
    if (event.key === " ") { event.preventDefault(); toggle(); }
    if (event.key === "f" && document.fullscreenEnabled) toggleFullscreen();
  });
  showTime();
}

const toggleFullscreen = () => (document.fullscreenElement ? document.exitFullscreen() : byId("stage").requestFullscreen()).catch(() => {});

// Sliders of everything that moves. `values` are those that were touched; `offsets` and `held` are what they mean for Head.edit.
class Sliders {
  constructor(head) {
    this.head = head;
    this.values = {};
    this.mode = "add";
    this.rows = {};
    const groups = [["Face", head.controls.map(({ name }) => name)], ["Eyes and brows", ["blink", ...head.exp]], ["Mouth", head.lip]];
    for (const [title, names] of groups) if (names.length) this.#addGroup(title, names);
    for (const input of document.querySelectorAll("[name=mode]")) input.addEventListener("change", () => { this.mode = input.value; this.show(); });
    byId("reset").addEventListener("click", () => { this.values = {}; this.show(); });
    this.show();
  }

  get offsets() { return this.mode === "add" ? this.values : {}; }
  get held() { return this.mode === "hold" ? this.values : {}; }

  set(name, value) {
    if (value === null) delete this.values[name];
    else this.values[name] = value;
    this.show();
  }

  #label(name) {
    if (name === "blink") return ["Blink", ""];
    const control = this.head.controls.find((one) => one.name === name);
    if (control) return [control.label, ""];
    const [number, meaning] = this.head.labels[name].split(" · ");
    return meaning ? [meaning[0].toUpperCase() + meaning.slice(1), number] : [number, ""];
  }

  #addGroup(title, names) {
    const group = document.createElement("fieldset"), legend = document.createElement("legend");
    legend.textContent = title;
    group.append(legend);
    for (const name of names) {
      const [low, high] = this.head.ranges[name], [text, number] = this.#label(name);
      const row = document.createElement("div");
      row.className = "row";
      row.innerHTML = `<label></label><button type="button"></button><div class="slide"><input type="range" step="0.01"><i></i></div>`;
      const label = row.querySelector("label"), button = row.querySelector("button"), input = row.querySelector("input");
      label.textContent = text;
      if (number) label.append(Object.assign(document.createElement("small"), { textContent: ` ${number}` }));
      label.htmlFor = input.id = `slider-${name}`;
      Object.assign(input, { min: low, max: high });
      button.setAttribute("aria-label", `Reset ${text}`);
      input.addEventListener("input", () => {
        const value = Math.abs(input.value) < (high - low) / 150 ? 0 : Number(input.value); // zero is easy to find again
        this.set(name, value === 0 && this.mode === "add" ? null : value);
      });
      input.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        if (!steps) return;
        event.preventDefault(); // the range's own step of 0.01 would never leave zero
        const step = (high - low) / 50, value = Math.round(((this.values[name] ?? 0) / step) + steps) * step;
        this.set(name, Math.min(Math.max(value, low), high));
      });
      for (const reset of [[button, "click"], [input, "dblclick"]]) reset[0].addEventListener(reset[1], () => this.set(name, null));
      group.append(row);
      this.rows[name] = { row, input, button, low, high };
    }
    byId("sliders").append(group);
  }

  show() {
    byId("mode-note").textContent = this.mode === "add"
      ? "A slider adds to what the speech does. The small mark shows where the speech is."
      : "A slider that was moved holds its value, whatever the speech does; the others follow the speech.";
    byId("reset").disabled = !Object.keys(this.values).length;
    for (const [name, { row, input, button }] of Object.entries(this.rows)) {
      const value = this.values[name], set = value !== undefined;
      input.value = value ?? 0;
      row.classList.toggle("set", set);
      button.tabIndex = set ? 0 : -1;
      const number = Math.abs(value).toFixed(2), minus = value < 0 ? "−" : "";
      button.textContent = !set ? "speech" : this.mode === "add" ? `${minus || "+"}${number}` : `= ${minus}${number}`;
      input.setAttribute("aria-valuetext", button.textContent);
    }
  }

  // Marks where the speech has every slider.
  mark({ exp, lip, blink, controls }) {
    const { head } = this, values = [...exp, ...lip, blink, ...controls];
    [...head.exp, ...head.lip, "blink", ...head.controls.map(({ name }) => name)].forEach((name, k) => {
      const { row, low, high } = this.rows[name];
      row.style.setProperty("--live", Math.min(Math.max((values[k] - low) / (high - low), 0), 1).toFixed(3));
    });
  }
}

const toRgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);

// -- together -----------------------------------------------------------------------------------------------------------------------

// Moves the head by the sound's clock, by the sliders, and by idle blinks while nothing plays.
function animate(head, view, curves, sliders) {
  const clock = new Clock(), blinks = new IdleBlinks();
  let share = 0, before = performance.now(), shown = "", turned = !talk.spiral;
  view.addEventListener("orbit", () => { turned = true; });
  const step = () => {
    requestAnimationFrame(step);
    const time = performance.now(), passed = (time - before) / 1000;
    before = time;
    const idle = audio.paused && (audio.ended || audio.currentTime === 0);
    share = idle ? Math.max(0, share - passed / EASE_SECONDS) : audio.paused ? 1 : Math.min(1, share + passed / EASE_SECONDS);
    const seconds = clock.now(), speech = curves.at(seconds, share * share * (3 - 2 * share));
    const waiting = audio.paused && !("blink" in sliders.held) ? blinks.value() : 0;
    const moment = waiting ? { ...speech, blink: Math.max(speech.blink, waiting) } : speech;
    if (waiting) {
      const added = head.blinkCoefficients(moment.blink), had = head.blinkCoefficients(speech.blink);
      moment.exp = speech.exp.map((value, k) => value + added[k] - had[k]);
    }
    const pose = head.edit(moment, sliders.offsets, sliders.held);
    const state = JSON.stringify(pose);
    const settings = state === shown ? {} : { ...pose };
    shown = state;
    if (!turned && !audio.paused) {
      const angle = (2 * Math.PI * seconds) / 4, radius = Math.min(1, seconds / 2); // dgtalker.camera.camera_path
      settings.camera = { yaw: 25 * radius * Math.sin(angle), pitch: 10 * radius * Math.cos(angle) };
    }
    if (Object.keys(settings).length) view.set(settings);
    if (!audio.paused) showTime();
    if (byId("controls").open) sliders.mark(speech);
  };
  step();
}

async function main() {
  prepareSound();
  byId("fullscreen").hidden = !document.fullscreenEnabled;
  byId("fullscreen").addEventListener("click", toggleFullscreen);
  const head = await Head.load(decode("head-data"));
  const inflated = new Response(new Blob([decode("curves-data")]).stream().pipeThrough(new DecompressionStream("gzip")));
  const curves = new Curves(await inflated.arrayBuffer(), head), sliders = new Sliders(head);
  const view = new Viewport(byId("canvas"), head, { camera: talk.camera, adaptive: true, maxSide: 1536 });
  if (view.software) view.maxSide = SOFTWARE_SIDE;
  view.addEventListener("lost", () => { root.classList.remove("live"); showNotice("The graphics card was lost: the picture moves again when it is back."); });
  view.addEventListener("restored", () => { root.classList.add("live"); showNotice(""); });
  byId("home").addEventListener("click", () => { view.set({ camera: view.home }); view.dispatchEvent(new Event("orbit")); });
  byId("background").addEventListener("input", (event) => {
    view.set({ background: toRgb(event.target.value) });
    byId("stage").style.background = event.target.value;
  });
  window.dgtalker = { head, view, audio, curves, sliders }; // for pages that embed this one, and for tests
  animate(head, view, curves, sliders);
  await view.drawn;
  root.classList.add("live");
}

main().catch((error) => {
  byId("controls").hidden = byId("tools").hidden = true;
  showNotice(error.message); // the still picture and the sound stay
});
