import { splatEngine } from "./splat_engine.js";

// A head: what its pack says, and how its settings become coefficients. Its splats are blended in a worker, or, where a page
// may not start one, on the page itself.
//
//   const head = await Head.load(arrayBuffer);
//   view.set(head.pose({ lip1: 2, blink: 1, smile: 0.5 }));
export class Head {
  // pack: ArrayBuffer or typed array, as it is or packed by gzip. Throws an Error of one sentence if it cannot be used.
  static async load(pack) {
    let buffer = ArrayBuffer.isView(pack) ? pack.buffer.slice(pack.byteOffset, pack.byteOffset + pack.byteLength) : pack;
    const [first, second] = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
    if (first === 0x1f && second === 0x8b) buffer = await inflate(buffer);
    const head = new Head();
    await head.#start(buffer);
    return head;
  }

  #engine = null;
  #views = new Map(); // number -> what is called with answers
  #nextView = 1;

  async #start(buffer) {
    const load = (engine) => new Promise((resolve, reject) => {
      engine.listen((message) => (message.type === "loaded" ? resolve(message.header) : reject(new Error(message.problem))), reject);
      engine.send({ type: "load", pack: buffer });
    });
    let engine = startWorker(), header;
    try {
      header = await load(engine);
    } catch (error) {
      engine.stop();
      if (!(error instanceof WorkerRefused)) throw error;
      engine = startOnPage();
      header = await load(engine);
    }
    engine.listen((message) => this.#views.get(message.view)?.(message));
    this.#engine = engine;
    this.header = header;
    for (const name of ["name", "title", "splats", "exp", "lip", "labels", "controls", "attribution", "license"]) this[name] = header[name];
    this.ranges = Object.fromEntries([...this.exp, ...this.lip].map((name, i) => [name, header.ranges[i]]));
    this.ranges.blink = [0, 1];
    for (const control of this.controls) this.ranges[control.name] = [0, 1];
  }

  // What blink in 0 (open) .. 1 (shut) adds to the expression: [n_exp].
  blinkCoefficients(blink) {
    const { linear, quadratic, unit } = this.header.blink, e = clamp(blink, 0, 1);
    return linear.map((value, k) => (e * value + e * e * quadratic[k]) / unit[k]);
  }

  // Settings by name, {lip3: 1.5, blink: 1, smile: 0.7} -> {exp, lip, controls} for Viewport.set; what is not named is zero. Beyond
  // its range a value counts as the range's end (Identity.coefficients).
  pose(settings = {}) {
    const value = (name) => clamp(settings[name] ?? 0, ...this.ranges[name]);
    const blink = value("blink"), added = this.blinkCoefficients(blink);
    return {
      exp: this.exp.map((name, k) => value(name) + added[k]),
      lip: this.lip.map(value),
      controls: this.shareLids(this.controls.map(({ name }) => value(name)), blink),
    };
  }

  // A moment of curves, {exp, lip, blink, controls}, with `offsets` added by name as Performance.edit does, and with the values of
  // `held` in place of the curves': {exp, lip, controls} for Viewport.set. exp contains what the curves' blink adds.
  edit(moment, offsets = {}, held = {}) {
    const moved = (names, values) => names.map((name, k) => {
      const [low, high] = this.ranges[name], value = values[k];
      if (name in held) return clamp(held[name], low, high);
      return offsets[name] ? clamp(value + offsets[name], Math.min(low, value), Math.max(high, value)) : value;
    });
    const before = this.blinkCoefficients(moment.blink);
    const blink = clamp(held.blink ?? moment.blink + (offsets.blink ?? 0), 0, 1), after = this.blinkCoefficients(blink);
    const exp = moved(this.exp, moment.exp).map((value, k) => value + after[k] - (this.exp[k] in held ? 0 : before[k]));
    const values = this.controls.map(({ name }, k) => clamp(held[name] ?? (moment.controls?.[k] ?? 0) + (offsets[name] ?? 0), 0, 1));
    return { exp, lip: moved(this.lip, moment.lip), controls: this.shareLids(values, blink) };
  }

  // Lids that are shut are moved no further (face_controls.share_lids).
  shareLids(values, blink) {
    const winks = Math.max(0, ...values.filter((_, k) => this.controls[k].lids === "close"));
    return values.map((value, k) => {
      const { lids } = this.controls[k];
      return lids === "close" ? value * (1 - blink) : lids === "move" ? value * (1 - blink) * (1 - winks) : value;
    });
  }

  // For viewports: a channel to the engine; `answer` is called with every message for it.
  connect(answer) {
    const view = this.#nextView++;
    this.#views.set(view, answer);
    return {
      draw: (request, transfer) => this.#engine.send({ type: "draw", view, ...request }, transfer),
      close: () => {
        this.#views.delete(view);
        this.#engine.send({ type: "forget", view });
      },
    };
  }

  // Ends the worker; the head cannot be drawn afterwards.
  close() {
    this.#engine.stop();
  }
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

class WorkerRefused extends Error {}

async function inflate(buffer) {
  if (!globalThis.DecompressionStream) throw new Error("This browser cannot unpack the head: use one of 2023 or later.");
  try {
    return await new Response(new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  } catch {
    throw new Error("The head's file is damaged or cut short: load the page again, or write the file again.");
  }
}

// The engine in a worker: {send(message, transfer), listen(onMessage, onRefusal), stop()}.
function startWorker() {
  const source = `"use strict";const engine=(${splatEngine})((message,transfer)=>postMessage(message,transfer));onmessage=(event)=>engine.receive(event.data);`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  let worker, refusal = null;
  try {
    worker = new Worker(url);
  } catch (error) { // a page's rules may forbid workers
    refusal = new WorkerRefused(error.message);
  }
  return {
    send: (message, transfer = []) => worker?.postMessage(message, transfer),
    listen(onMessage, onRefusal) {
      if (refusal) return onRefusal?.(refusal);
      worker.onmessage = (event) => onMessage(event.data);
      worker.onerror = (event) => { event.preventDefault(); onRefusal?.(new WorkerRefused(event.message)); };
    },
    stop() {
      worker?.terminate();
      URL.revokeObjectURL(url);
    },
  };
}

// The same on the page: slower to react, but it works wherever the page does.
function startOnPage() {
  let onMessage = () => {};
  const engine = splatEngine((message) => setTimeout(() => onMessage(message)));
  return {
    send: (message) => setTimeout(() => engine.receive(message)),
    listen: (listener) => { onMessage = listener; },
    stop: () => { onMessage = () => {}; },
  };
}
