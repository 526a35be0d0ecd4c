const ORBIT_DISTANCE = 12; // decimetres, as in dgtalker/camera.py
const ORBIT_VIEW_HEIGHT = 3.2;
const TEXTURE_WIDTH = 1024, TEXELS = 4; // a splat's, in rows of the texture; as splat_engine.js fills them
const FRONT = { yaw: 0, pitch: 0, zoom: 1, target: [0, 0, 0] };
const LIMITS = { pitch: 85, zoom: [0.4, 8], target: 2 };
const SCALES = [1, 0.75, 0.5, 0.375, 0.25]; // of the resolution, while moving on a slow machine
const SLOW_MS = 50, QUICK_MS = 40, STILL_MS = 250; // a picture that takes longer, that the next larger one must not exceed
const SLOW_RUN = 2, QUICK_RUN = 8; // pictures in a row before the resolution changes

// The orbit camera of dgtalker.camera.orbit_camera for a picture of width x height pixels; a square of the shorter side shows what
// the square camera sees. rotation: rows x (right), y (down), z (forward); focal, centre in pixels.
export function orbitCamera({ yaw, pitch, zoom, target }, width, height) {
  const a = (yaw * Math.PI) / 180, b = (pitch * Math.PI) / 180;
  const outward = [Math.sin(a) * Math.cos(b), Math.sin(b), Math.cos(a) * Math.cos(b)];
  const right = [Math.cos(a), 0, -Math.sin(a)], forward = outward.map((value) => -value);
  const down = [forward[1] * right[2] - forward[2] * right[1], forward[2] * right[0] - forward[0] * right[2], forward[0] * right[1] - forward[1] * right[0]];
  const position = outward.map((value, i) => target[i] + ORBIT_DISTANCE * value);
  const rotation = [right, down, forward];
  return {
    rotation,
    translation: rotation.map((row) => -row.reduce((sum, value, i) => sum + value * position[i], 0)),
    focal: (Math.min(width, height) * ORBIT_DISTANCE * zoom) / ORBIT_VIEW_HEIGHT,
    centre: [width / 2, height / 2],
  };
}

// EWA splatting (Zwicker et al. 2002) with the conventions of dgtalker/render: a low-pass of 0.3 pixels^2, opacities of at most
// 0.999, nothing below 1/255, and the Jacobian taken inside the view cone plus 30 %. A quad lies along the axes of its ellipse.
const VERTEX = `#version 300 es
precision highp float;
precision highp sampler2D;
layout(location = 0) in uint splat;
uniform sampler2D splats;
uniform mat3 rotation;  // columns are the camera's rows
uniform vec3 translation;
uniform vec2 size, centre;
uniform float focal;
out vec2 offset;  // from the centre, in standard deviations along the axes
flat out vec4 color;  // RGB and opacity
flat out float reach;
void main() {
  ivec2 at = ivec2(int(splat) * ${TEXELS} % ${TEXTURE_WIDTH}, int(splat) * ${TEXELS} / ${TEXTURE_WIDTH});
  vec4 t0 = texelFetch(splats, at, 0), t1 = texelFetch(splats, at + ivec2(1, 0), 0);
  vec4 t2 = texelFetch(splats, at + ivec2(2, 0), 0), t3 = texelFetch(splats, at + ivec2(3, 0), 0);
  mat3 covariance = mat3(t1.x, t1.y, t1.z, t1.y, t1.w, t2.x, t1.z, t2.x, t2.y);
  vec3 p = t0.xyz * rotation + translation;
  vec2 direction = p.xy / p.z, margin = 0.15 * size / focal;
  vec2 inside = clamp(direction, -centre / focal - margin, (size - centre) / focal + margin);
  vec3 a = focal / p.z * (rotation[0] - inside.x * rotation[2]), b = focal / p.z * (rotation[1] - inside.y * rotation[2]);
  vec3 sa = covariance * a;
  float xx = dot(a, sa) + 0.3, xy = dot(b, sa), yy = dot(b, covariance * b) + 0.3;
  float half_difference = 0.5 * (xx - yy), root = sqrt(half_difference * half_difference + xy * xy);
  float longer = 0.5 * (xx + yy) + root, shorter = max((xx * yy - xy * xy) / longer, 0.3);
  vec2 axis = half_difference >= 0.0 ? vec2(half_difference + root, xy) : vec2(xy, root - half_difference);
  axis = root > 1e-9 ? normalize(axis) : vec2(1, 0);
  reach = 2.0 * log(255.0 * t0.w);
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  offset = corner * sqrt(max(reach, 0.0));
  vec2 pixel = focal * direction + centre + offset.x * sqrt(longer) * axis + offset.y * sqrt(shorter) * vec2(-axis.y, axis.x);
  color = vec4(t2.zw, t3.x, t0.w);
  gl_Position = vec4(2.0 * pixel / size - 1.0, 0, 1) * vec4(1, -1, 1, 1);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec2 offset;
flat in vec4 color;
flat in float reach;
out vec4 pixel;
void main() {
  float form = dot(offset, offset);
  if (form > reach) discard;
  float alpha = min(color.a * exp(-0.5 * form), 0.999);
  pixel = vec4(color.rgb * alpha, alpha);
}`;

const COPY_VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0, 1); }`;

const COPY_FRAGMENT = `#version 300 es
precision highp float;
uniform highp sampler2D picture;
out vec4 pixel;
void main() { pixel = vec4(texelFetch(picture, ivec2(gl_FragCoord.xy), 0).rgb, 1); }`;

// A head on a canvas of the page, in as many pixels as the display has there. Several may show one head.
//
//   const view = new Viewport(canvas, head, { background: [1, 1, 1], orbit: true });
//   view.set({ exp, lip, controls, camera: { yaw: 20 }, background });
//   await view.drawn;
//
// What is set last wins: while a picture is made, older settings are dropped. Options: background, camera; orbit: the pointer and the
// keyboard move the camera; adaptive: fewer pixels while something moves and the machine is slow; maxSide: most pixels a side.
// Events: "orbit" after the user moved the camera, "drawn", "lost" and "restored" with the graphics card's context. Throws an Error
// of one sentence where there is no WebGL2.
export class Viewport extends EventTarget {
  constructor(canvas, head, { background = [1, 1, 1], camera = {}, orbit = true, adaptive = false, maxSide = 2048 } = {}) {
    super();
    this.canvas = canvas;
    this.head = head;
    this.adaptive = adaptive;
    this.maxSide = maxSide;
    this.home = { ...FRONT, ...camera };
    this.camera = { ...this.home };
    this.background = background;
    this.timings = { blendMs: 0, sortMs: 0, uploadMs: 0, frameMs: 0, frames: 0 };
    this.lost = false;
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("This browser has no WebGL2, which moving the head needs: switch on hardware acceleration, or use another one.");
    this.#gl = gl;
    this.#coefficients = new Float32Array(head.exp.length + head.lip.length);
    this.#controls = new Float32Array(head.controls.length);
    this.#channel = head.connect((message) => this.#receive(message));
    this.#prepare();
    const { signal } = this.#listeners;
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // asks for it to be restored
      this.lost = true;
      this.dispatchEvent(new Event("lost"));
    }, { signal });
    canvas.addEventListener("webglcontextrestored", () => {
      this.lost = false;
      this.#prepare();
      this.#changed(true);
      this.drawn.then(() => this.dispatchEvent(new Event("restored")), () => {});
    }, { signal });
    this.#observer = new ResizeObserver((entries) => this.#resized(entries[0]));
    try {
      this.#observer.observe(canvas, { box: "device-pixel-content-box" });
    } catch { // Safari
      this.#observer.observe(canvas);
    }
    if (orbit) followPointer(this, signal);
    this.#changed(true);
  }

  #gl;
  #channel;
  #observer;
  #listeners = new AbortController();
  #programs = {};
  #splats = null; // texture
  #order = null; // buffer of splats from far to near
  #target = null; // {framebuffer, texture, width, height} of half floats
  #count = 0; // splats to draw
  #coefficients;
  #controls;
  #serial = 0; // of what is set
  #asked = 0; // of the last request
  #painted = 0; // of what is on the canvas
  #posed = false; // the engine has the coefficients that are set
  #busy = false; // a request is on its way
  #answer = null; // to be uploaded with the next picture
  #spare = null;
  #waiting = []; // {serial, resolve, reject}
  #frame = 0;
  #dirty = false; // the canvas does not show what is set
  #size = null; // wanted pixels
  #scale = 0; // index into SCALES
  #slow = 0; // late and early pictures in a row
  #quick = 0;
  #stillTimer = 0;
  #fence = null;
  #fenceStart = 0;

  // Changes what is given: exp [n_exp] and lip [n_lip] in training standard deviations as Identity.frame takes them (blink included),
  // controls [K] in 0..1 as shown, camera {yaw, pitch, zoom, target}, background [3] in 0..1.
  set({ exp, lip, controls, camera, background }) {
    const posed = exp || lip || controls;
    copyInto(this.#coefficients, exp, 0, this.head.exp.length, "exp");
    copyInto(this.#coefficients, lip, this.head.exp.length, this.head.lip.length, "lip");
    copyInto(this.#controls, controls, 0, this.head.controls.length, "controls");
    if (camera) {
      const next = { ...this.camera, ...camera };
      if (![next.yaw, next.pitch, next.zoom, ...next.target].every(Number.isFinite) || next.zoom <= 0 || Math.abs(next.pitch) >= 90) {
        throw new Error("Camera yaw, pitch, zoom and target must be finite numbers, zoom above zero, pitch between -90 and 90.");
      }
      this.camera = next;
    }
    if (background) this.background = [...background];
    this.#changed(Boolean(posed));
  }

  // Resolves when what is set now is on the canvas; rejects if the head cannot be drawn.
  get drawn() {
    if (this.#painted >= this.#serial && !this.#dirty) return Promise.resolve(this);
    return new Promise((resolve, reject) => this.#waiting.push({ serial: this.#serial, resolve, reject }));
  }

  // Name of what draws, as far as the browser tells.
  get renderer() {
    const gl = this.#gl, info = gl.getExtension("WEBGL_debug_renderer_info");
    return String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  }

  // Whether that is a program instead of a graphics card.
  get software() {
    return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(this.renderer);
  }

  // Whether pictures are composited in half floats; else in bytes, with a little banding.
  get halfFloat() {
    return this.#target !== null;
  }

  // The picture that is set, {width, height, data: Uint8ClampedArray RGBA from the top row down}.
  async pixels() {
    await this.drawn;
    this.#paint();
    const gl = this.#gl, { width, height } = this.canvas, raw = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, raw);
    const data = new Uint8ClampedArray(raw.length);
    for (let y = 0; y < height; y++) data.set(raw.subarray(4 * width * y, 4 * width * (y + 1)), 4 * width * (height - 1 - y));
    return { width, height, data };
  }

  // Gives everything back. The canvas keeps its last picture, and another viewport may be put on it.
  close() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#stillTimer);
    this.#listeners.abort();
    this.#observer.disconnect();
    this.#channel.close();
    this.#reject(new Error("The viewport was closed."));
    const gl = this.#gl;
    for (const texture of [this.#splats, this.#target?.texture]) gl.deleteTexture(texture ?? null);
    for (const { program } of Object.values(this.#programs)) gl.deleteProgram(program);
    gl.deleteBuffer(this.#order);
    gl.deleteFramebuffer(this.#target?.framebuffer ?? null);
  }

  // -- from what is set to a picture --------------------------------------------------------------------------------------------

  #changed(posed) {
    this.#serial++;
    if (posed) this.#posed = false;
    this.#dirty = true;
    if (this.adaptive) {
      clearTimeout(this.#stillTimer);
      this.#stillTimer = setTimeout(() => this.#standStill(), STILL_MS);
    }
    this.#ask();
    this.#schedule();
  }

  #ask() {
    if (this.#busy || this.lost || this.#asked === this.#serial) return;
    const { rotation, translation } = orbitCamera(this.camera, 1, 1);
    this.#busy = true;
    this.#asked = this.#serial;
    const request = { serial: this.#serial, coefficients: null, controls: null, depth: [...rotation[2], translation[2]], spare: null };
    if (!this.#posed) Object.assign(request, { coefficients: this.#coefficients.slice(), controls: this.#controls.slice(), spare: this.#spare });
    this.#channel.draw(request, request.spare ? [request.spare.buffer] : []);
    if (!this.#posed) this.#spare = null;
    this.#posed = true;
  }

  #receive(message) {
    this.#busy = false;
    if (message.type === "failed") return this.#reject(new Error(message.problem));
    const unpainted = this.#answer?.splats ?? null;
    this.#answer = { ...message, splats: message.splats ?? unpainted };
    if (message.splats) this.#spare ??= unpainted;
    Object.assign(this.timings, message.splats ? { blendMs: message.blendMs, sortMs: message.sortMs } : { sortMs: message.sortMs });
    this.#ask();
    this.#dirty = true;
    this.#schedule();
  }

  #reject(error) {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #schedule() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => { this.#frame = 0; this.#show(); });
  }

  #show() {
    if (this.lost || !this.#size) return;
    if (this.#fence && !this.#finished()) return this.#schedule(); // the card is busy: do not pile up pictures
    if (!this.#dirty) return;
    const serial = this.#answer?.serial ?? this.#painted;
    this.#upload();
    if (serial === 0) return; // nothing has been blended yet
    const start = performance.now();
    this.#paint();
    this.#painted = serial;
    this.#dirty = false; // if it is older than what is set, the next answer brings the rest
    this.timings.frames++;
    const gl = this.#gl;
    this.#fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    this.#fenceStart = start;
    gl.flush();
    for (const wait of this.#waiting.splice(0)) {
      if (wait.serial <= serial) wait.resolve(this);
      else this.#waiting.push(wait);
    }
    this.dispatchEvent(new Event("drawn"));
    this.#schedule(); // to learn when the card has finished
  }

  #finished() {
    const gl = this.#gl, status = gl.clientWaitSync(this.#fence, 0, 0);
    if (status === gl.TIMEOUT_EXPIRED) return false;
    gl.deleteSync(this.#fence);
    this.#fence = null;
    const ms = performance.now() - this.#fenceStart;
    this.timings.frameMs = ms;
    if (this.adaptive && this.#stillTimer) {
      const larger = (SCALES[Math.max(this.#scale - 1, 0)] / SCALES[this.#scale]) ** 2;
      this.#slow = ms > SLOW_MS ? this.#slow + 1 : 0;
      this.#quick = ms * larger < QUICK_MS ? this.#quick + 1 : 0;
      const step = this.#slow >= SLOW_RUN ? 1 : this.#quick >= QUICK_RUN ? -1 : 0;
      if (step) this.#slow = this.#quick = 0;
      this.#scale = Math.min(Math.max(this.#scale + step, 0), SCALES.length - 1);
    }
    return true;
  }

  #standStill() {
    this.#stillTimer = 0;
    if (this.#scale === 0) return;
    this.#dirty = true;
    this.#schedule();
  }

  #upload() {
    const gl = this.#gl, answer = this.#answer;
    if (!answer) return;
    const start = performance.now();
    this.#answer = null;
    if (answer.splats) {
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, this.#splats);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, TEXTURE_WIDTH, answer.splats.length / (4 * TEXTURE_WIDTH), gl.RGBA, gl.FLOAT, answer.splats);
      this.#spare = answer.splats;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.#order);
    gl.bufferData(gl.ARRAY_BUFFER, answer.order, gl.STREAM_DRAW);
    this.#count = answer.order.length;
    this.timings.uploadMs = performance.now() - start;
  }

  #paint() {
    const gl = this.#gl, scale = this.adaptive && this.#stillTimer ? SCALES[this.#scale] : 1;
    const [width, height] = this.#size.map((side) => Math.max(1, Math.round(side * scale)));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const target = this.#target && this.#resizeTarget(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target ? target.framebuffer : null);
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const { program, uniforms } = this.#programs.splats, camera = orbitCamera(this.camera, width, height);
    gl.useProgram(program);
    gl.uniformMatrix3fv(uniforms.rotation, false, camera.rotation.flat());
    gl.uniform3fv(uniforms.translation, camera.translation);
    gl.uniform2f(uniforms.size, width, height);
    gl.uniform2fv(uniforms.centre, camera.centre);
    gl.uniform1f(uniforms.focal, camera.focal);
    gl.uniform1i(uniforms.splats, 0);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.#splats);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.#order);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // from far to near
    if (this.#count) gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.#count);
    gl.disable(gl.BLEND);
    if (!target) return;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.useProgram(this.#programs.copy.program);
    gl.bindTexture(gl.TEXTURE_2D, target.texture);
    gl.uniform1i(this.#programs.copy.uniforms.picture, 0);
    gl.disableVertexAttribArray(0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  // -- the graphics card's side -------------------------------------------------------------------------------------------------

  #prepare() {
    const gl = this.#gl;
    this.#fence = null;
    this.#answer = null;
    this.#count = this.#painted = 0;
    this.#programs = {
      splats: makeProgram(gl, VERTEX, FRAGMENT, ["splats", "rotation", "translation", "size", "centre", "focal"]),
      copy: makeProgram(gl, COPY_VERTEX, COPY_FRAGMENT, ["picture"]),
    };
    this.#splats = makeTexture(gl);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, TEXTURE_WIDTH, Math.ceil((this.head.splats * TEXELS) / TEXTURE_WIDTH));
    this.#order = gl.createBuffer();
    const half = gl.getExtension("EXT_color_buffer_float") ?? gl.getExtension("EXT_color_buffer_half_float");
    this.#target = half ? { framebuffer: gl.createFramebuffer(), texture: null, width: 0, height: 0 } : null;
  }

  #resizeTarget(width, height) {
    const gl = this.#gl, target = this.#target;
    if (target.width === width && target.height === height) return target;
    gl.deleteTexture(target.texture);
    Object.assign(target, { texture: makeTexture(gl), width, height });
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA16F, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target.texture, 0);
    return target;
  }

  #resized(entry) {
    const device = entry.devicePixelContentBoxSize?.[0], css = entry.contentBoxSize[0];
    const ratio = globalThis.devicePixelRatio || 1;
    let sides = [css.inlineSize * ratio, css.blockSize * ratio];
    const exact = device && [device.inlineSize, device.blockSize]; // after rounding to the display's grid; not where a display is emulated
    if (exact?.every((side, i) => Math.abs(side - sides[i]) <= 1)) sides = exact;
    if (!sides[0] || !sides[1]) return; // hidden
    const shrink = Math.min(1, this.maxSide / Math.max(...sides));
    this.#size = sides.map((side) => Math.max(1, Math.round(side * shrink)));
    this.#dirty = true;
    this.#schedule();
  }
}

function copyInto(target, values, first, count, name) {
  if (!values) return;
  if (values.length !== count) throw new Error(`This head takes ${count} values of ${name}, not ${values.length}.`);
  for (let i = 0; i < count; i++) {
    if (!Number.isFinite(values[i])) throw new Error(`A value of ${name} is not a finite number.`);
    target[first + i] = values[i];
  }
}

function makeProgram(gl, vertex, fragment, names) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`The graphics driver refuses the renderer: ${[...logs, gl.getProgramInfoLog(program)].join(" ").trim()}`);
  }
  return { program, uniforms: Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)])) };
}

function makeTexture(gl) {
  const texture = gl.createTexture();
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
  for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, wrap, gl.CLAMP_TO_EDGE);
  return texture;
}

// Orbit by mouse, pen, touch and keyboard; two fingers or the wheel zoom, shift and drag pans, a double click goes home.
function followPointer(view, signal) {
  const { canvas } = view, pointers = new Map();
  const listen = (name, listener, options = {}) => canvas.addEventListener(name, listener, { signal, ...options });
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const move = (camera) => {
    const next = { ...view.camera, ...camera };
    next.pitch = clamp(next.pitch, -LIMITS.pitch, LIMITS.pitch);
    next.yaw = ((((next.yaw + 180) % 360) + 360) % 360) - 180;
    next.zoom = clamp(next.zoom, ...LIMITS.zoom);
    next.target = next.target.map((value) => clamp(value, -LIMITS.target, LIMITS.target));
    view.set({ camera: next });
    view.dispatchEvent(new Event("orbit"));
  };
  const pan = (dx, dy) => {
    const { zoom, target } = view.camera, { rotation } = orbitCamera(view.camera, 1, 1);
    const step = ORBIT_VIEW_HEIGHT / (Math.min(canvas.clientWidth, canvas.clientHeight) * zoom);
    move({ target: target.map((value, i) => value - step * (dx * rotation[0][i] + dy * rotation[1][i])) });
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.style.touchAction = "none";
  listen("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  listen("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.x, dy = event.clientY - before.y, old = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const { yaw, pitch, zoom } = view.camera, degrees = 200 / Math.max(canvas.clientWidth, 1);
    if (pointers.size === 2) {
      pan(dx / 2, dy / 2);
      move({ zoom: (zoom * spread()) / Math.max(old, 1) });
    } else if (event.shiftKey || event.buttons & 6) pan(dx, dy);
    else move({ yaw: yaw - dx * degrees, pitch: pitch + dy * degrees });
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) listen(end, (event) => pointers.delete(event.pointerId));
  listen("contextmenu", (event) => event.preventDefault());
  listen("wheel", (event) => {
    event.preventDefault();
    move({ zoom: view.camera.zoom * Math.exp(-event.deltaY * 0.0012) });
  }, { passive: false });
  listen("dblclick", () => move(view.home));
  const keys = {
    ArrowLeft: () => move({ yaw: view.camera.yaw - 5 }),
    ArrowRight: () => move({ yaw: view.camera.yaw + 5 }),
    ArrowUp: () => move({ pitch: view.camera.pitch + 5 }),
    ArrowDown: () => move({ pitch: view.camera.pitch - 5 }),
    "+": () => move({ zoom: view.camera.zoom * 1.15 }),
    "=": () => move({ zoom: view.camera.zoom * 1.15 }),
    "-": () => move({ zoom: view.camera.zoom / 1.15 }),
    Home: () => move(view.home),
  };
  listen("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}
