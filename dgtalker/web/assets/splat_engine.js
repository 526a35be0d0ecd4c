// The work behind a head's pictures: reads its pack, blends its splats and sorts them by depth, as dgtalker/head/baked.py and
// dgtalker/render do. It runs in a worker whose source is this function's text, so it uses nothing from outside.
//
// receive(message) takes, and post(message, transferred) answers:
//   {type: "load", pack: ArrayBuffer}              {type: "loaded", header} or {type: "failed", problem}
//   {type: "draw", view, serial, coefficients: Float32Array [K] or null, controls: Float32Array or null,
//    depth: [4] the camera's row of z, spare}      {type: "drawn", view, serial, splats or null, order, blendMs, sortMs}
//   {type: "forget", view}
// Coefficients of null: only the camera moved. splats: Float32Array of TEXEL_FLOATS a splat; order: Uint32Array of splats from
// the farthest to the nearest. `spare` gives buffers of earlier answers back.
export function splatEngine(post) {
  const ATTRIBUTES = { means: 3, log_scales: 3, axis_angles: 3, logit_opacities: 1, colors: 3 };
  const MAGIC = "DGTHEAD\n", VERSION = 1, PREFIX = 48;
  const NEAR = 0.01; // decimetres
  const TEXEL_FLOATS = 16; // mean, opacity, covariance (xx xy xz yy yz zz), colour, padding
  const TEXTURE_WIDTH = 1024; // texels; splats are padded to whole rows
  let head = null;
  const views = new Map();

  // -- reading ------------------------------------------------------------------------------------------------------------------

  function load(buffer) {
    const again = "load the page again, or write the file again";
    if (buffer.byteLength < PREFIX) throw new Error(`The head's file is cut short: ${again}.`);
    const bytes = new Uint8Array(buffer), view = new DataView(buffer);
    if (String.fromCharCode(...bytes.subarray(0, 8)) !== MAGIC) throw new Error("This file is not a head's pack.");
    const version = view.getUint32(8, true), headerBytes = view.getUint32(12, true);
    if (version > VERSION) throw new Error(`The head's file is of a newer format (${version}, this page reads ${VERSION}): update the page.`);
    if (toHex(sha256(bytes.subarray(PREFIX))) !== toHex(bytes.subarray(16, 48))) {
      throw new Error(`The head's file is damaged or cut short: ${again}.`);
    }
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX, PREFIX + headerBytes)));
    const tensors = {}, start = PREFIX + headerBytes;
    const kinds = { float32: Float32Array, int8: Int8Array, int32: Int32Array, float16: Uint16Array };
    for (const { name, dtype, shape, offset } of header.tensors) {
      const size = shape.reduce((product, side) => product * side, 1);
      const values = new kinds[dtype](buffer, start + offset, size);
      tensors[name] = dtype === "float16" ? fromHalf(values) : values;
    }
    head = { header, ...header, coefficients: header.exp.length + header.lip.length, tensors };
    return header;
  }

  // Halves as float32.
  function fromHalf(halves) {
    const out = new Float32Array(halves.length);
    for (let i = 0; i < halves.length; i++) {
      const half = halves[i], exponent = (half >> 10) & 31, fraction = half & 1023;
      const size = exponent === 0 ? fraction * 2 ** -24
        : exponent === 31 ? (fraction ? NaN : Infinity)
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
      out[i] = half & 0x8000 ? -size : size;
    }
    return out;
  }

  const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

  // FIPS 180-4; the browser's own is missing on pages that are not served securely.
  function sha256(bytes) {
    const primes = [];
    for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
    const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
    const k = Int32Array.from(primes, (p) => fraction(Math.cbrt(p)));
    const state = Int32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p)));
    const whole = bytes.length & ~63, tail = new Uint8Array(bytes.length - whole < 56 ? 64 : 128);
    tail.set(bytes.subarray(whole));
    tail[bytes.length - whole] = 0x80;
    const lengths = new DataView(tail.buffer);
    lengths.setUint32(tail.length - 8, Math.floor(bytes.length / 2 ** 29));
    lengths.setUint32(tail.length - 4, (bytes.length << 3) >>> 0);
    const w = new Int32Array(64);
    const digest = (data, end) => {
      for (let at = 0; at < end; at += 64) {
        for (let i = 0, j = at; i < 16; i++, j += 4) w[i] = (data[j] << 24) | (data[j + 1] << 16) | (data[j + 2] << 8) | data[j + 3];
        for (let i = 16; i < 64; i++) {
          const x = w[i - 15], y = w[i - 2];
          const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
          const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
          w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
        }
        let [a, b, c, d, e, f, g, h] = state;
        for (let i = 0; i < 64; i++) {
          const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
          const t1 = (h + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i]) | 0;
          const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
          const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
          h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
        }
        [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
      }
    };
    digest(bytes, whole);
    digest(tail, tail.length);
    const out = new DataView(new ArrayBuffer(32));
    state.forEach((word, i) => out.setInt32(4 * i, word));
    return new Uint8Array(out.buffer);
  }

  // -- blending -----------------------------------------------------------------------------------------------------------------

  // phi(a) = [a, a_i a_j (i <= j)]
  function quadraticFeatures(a) {
    const phi = [...a];
    for (let i = 0; i < a.length; i++) for (let j = i; j < a.length; j++) phi.push(a[i] * a[j]);
    return phi;
  }

  // phi @ weights, within the head's bounds.
  function amplitudes(phi, name) {
    const rank = head.ranks[name], weights = head.tensors[`head.weights_${name}`], bounds = head.tensors[`head.bounds_${name}`];
    const out = new Float32Array(rank);
    for (let r = 0; r < rank; r++) {
      let sum = 0;
      for (let f = 0; f < phi.length; f++) sum += phi[f] * weights[f * rank + r];
      out[r] = Math.min(Math.max(sum, bounds[r]), bounds[rank + r]);
    }
    return out;
  }

  // out[i] += sum of g basis[o + i] for every `channels`-th i. A function of plain numbers: the browser compiles it well.
  function addFour(out, basis, c, channels, o0, o1, o2, o3, g0, g1, g2, g3) {
    for (let i = c; i < out.length; i += channels) {
      out[i] += g0 * basis[o0 + i] + g1 * basis[o1 + i] + g2 * basis[o2 + i] + g3 * basis[o3 + i];
    }
  }

  // mean + amplitudes @ basis + changes of the face controls: Float32Array [N * channels].
  function blend(name, phi, controls) {
    const channels = ATTRIBUTES[name], size = head.splats * channels, rank = head.ranks[name];
    const out = head.tensors[`head.mean_${name}`].slice();
    const basis = head.tensors[`head.basis_${name}`], step = head.tensors[`head.basis_${name}.scale`];
    const amplitude = amplitudes(phi, name), used = [];
    for (let r = 0; r < rank; r++) if (amplitude[r] !== 0) used.push(r);
    const gain = (k, c) => (k < used.length ? amplitude[used[k]] * step[used[k] * channels + c] : 0);
    const place = (k) => (k < used.length ? used[k] * size : 0);
    for (let k = 0; k < used.length; k += 4) { // four components at once: the sums are read and written less often
      for (let c = 0; c < channels; c++) {
        addFour(
          out, basis, c, channels, place(k), place(k + 1), place(k + 2), place(k + 3),
          gain(k, c), gain(k + 1, c), gain(k + 2, c), gain(k + 3, c),
        );
      }
    }
    if (controls) addControls(out, name, channels, controls);
    return out;
  }

  function addControls(out, name, channels, values) {
    const splats = head.tensors["controls.splats"];
    const change = head.tensors[`controls.change_${name}`], step = head.tensors[`controls.change_${name}.scale`];
    let row = 0;
    head.controls.forEach((control, k) => {
      const end = row + control.splats;
      for (; values[k] && row < end; row++) {
        for (let c = 0; c < channels; c++) out[splats[row] * channels + c] += values[k] * change[row * channels + c] * step[c];
      }
      row = end;
    });
  }

  // Blended splats into `state`: centres and visibility, for sorting, and `out`, the texels of the renderer.
  function pose(state, coefficients, controls, out) {
    const phi = quadraticFeatures(coefficients), n = head.splats;
    const attributes = {};
    for (const name of Object.keys(ATTRIBUTES)) attributes[name] = blend(name, phi, controls);
    const { means, log_scales: logs, axis_angles: axes, logit_opacities: logits, colors } = attributes;
    const base = head.tensors["head.base_quats"], longest = head.tensors["head.longest"];
    state.means = means;
    const { visible } = state;
    for (let i = 0, j = 0, o = 0; i < n; i++, j += 3, o += TEXEL_FLOATS) {
      const ax = axes[j], ay = axes[j + 1], az = axes[j + 2];
      const angle = Math.sqrt(ax * ax + ay * ay + az * az + 1e-12), share = Math.sin(angle / 2) / angle;
      const qw = Math.cos(angle / 2), qx = ax * share, qy = ay * share, qz = az * share;
      const pw = base[4 * i], px = base[4 * i + 1], py = base[4 * i + 2], pz = base[4 * i + 3];
      let w = pw * qw - px * qx - py * qy - pz * qz, x = pw * qx + px * qw + py * qz - pz * qy;
      let y = pw * qy - px * qz + py * qw + pz * qx, z = pw * qz + px * qy - py * qx + pz * qw;
      const length = Math.max(Math.sqrt(w * w + x * x + y * y + z * z), 1e-12);
      w /= length; x /= length; y /= length; z /= length;
      const s0 = Math.exp(Math.min(logs[j], longest[i])), s1 = Math.exp(Math.min(logs[j + 1], longest[i]));
      const s2 = Math.exp(Math.min(logs[j + 2], longest[i]));
      const m00 = s0 * (1 - 2 * (y * y + z * z)), m01 = s1 * 2 * (x * y - w * z), m02 = s2 * 2 * (x * z + w * y);
      const m10 = s0 * 2 * (x * y + w * z), m11 = s1 * (1 - 2 * (x * x + z * z)), m12 = s2 * 2 * (y * z - w * x);
      const m20 = s0 * 2 * (x * z - w * y), m21 = s1 * 2 * (y * z + w * x), m22 = s2 * (1 - 2 * (x * x + y * y));
      const opacity = 1 / (1 + Math.exp(-logits[i]));
      out[o] = means[j]; out[o + 1] = means[j + 1]; out[o + 2] = means[j + 2]; out[o + 3] = opacity;
      out[o + 4] = m00 * m00 + m01 * m01 + m02 * m02;
      out[o + 5] = m00 * m10 + m01 * m11 + m02 * m12;
      out[o + 6] = m00 * m20 + m01 * m21 + m02 * m22;
      out[o + 7] = m10 * m10 + m11 * m11 + m12 * m12;
      out[o + 8] = m10 * m20 + m11 * m21 + m12 * m22;
      out[o + 9] = m20 * m20 + m21 * m21 + m22 * m22;
      out[o + 10] = colors[j]; out[o + 11] = colors[j + 1]; out[o + 12] = colors[j + 2];
      let sum = 0; // not finite if any of them is not
      for (let f = 0; f < 13; f++) sum += out[o + f];
      visible[i] = opacity * 255 >= 1 && Math.abs(sum) < 1e30 ? 1 : 0;
    }
  }

  // -- sorting ------------------------------------------------------------------------------------------------------------------

  // Visible splats from the farthest to the nearest: a radix sort of their depths, whose bits sort as they do.
  function sort(state, depth) {
    const [a, b, c, d] = depth, { means, visible } = state, n = head.splats;
    const values = new Float32Array(1), bits = new Uint32Array(values.buffer);
    let keys = state.keys[0], order = state.keys[1], otherKeys = state.keys[2], other = state.keys[3];
    const histogram = new Uint32Array(3 * 2048);
    let count = 0;
    for (let i = 0; i < n; i++) {
      values[0] = a * means[3 * i] + b * means[3 * i + 1] + c * means[3 * i + 2] + d;
      if (!visible[i] || !(values[0] > NEAR)) continue;
      const key = bits[0];
      keys[count] = key;
      order[count++] = i;
      histogram[key & 2047]++;
      histogram[2048 + ((key >>> 11) & 2047)]++;
      histogram[4096 + (key >>> 22)]++;
    }
    for (let digit = 0; digit < 3; digit++) {
      const first = 2048 * digit, shift = 11 * digit;
      for (let k = 0, total = 0; k < 2048; k++) {
        const number = histogram[first + k];
        histogram[first + k] = total;
        total += number;
      }
      for (let i = 0; i < count; i++) {
        const place = histogram[first + ((keys[i] >>> shift) & 2047)]++;
        otherKeys[place] = keys[i];
        other[place] = order[i];
      }
      [keys, otherKeys, order, other] = [otherKeys, keys, other, order];
    }
    return order.slice(0, count).reverse();
  }

  // -- messages -----------------------------------------------------------------------------------------------------------------

  function draw({ view, serial, coefficients, controls, depth, spare }) {
    let state = views.get(view);
    if (!state) {
      const keys = [0, 1, 2, 3].map(() => new Uint32Array(head.splats));
      state = { visible: new Uint8Array(head.splats), means: null, keys };
      views.set(view, state);
    }
    const start = performance.now();
    let splats = null;
    if (coefficients) {
      const size = Math.ceil((head.splats * TEXEL_FLOATS) / (4 * TEXTURE_WIDTH)) * 4 * TEXTURE_WIDTH;
      splats = spare?.length === size ? spare : new Float32Array(size);
      pose(state, coefficients, controls, splats);
    }
    const blended = performance.now();
    const order = sort(state, depth);
    const answer = { type: "drawn", view, serial, splats, order, blendMs: blended - start, sortMs: performance.now() - blended };
    post(answer, splats ? [splats.buffer, order.buffer] : [order.buffer]);
  }

  function receive(message) {
    try {
      if (message.type === "load") post({ type: "loaded", header: load(message.pack) });
      else if (message.type === "draw") draw(message);
      else if (message.type === "forget") views.delete(message.view);
    } catch (error) {
      post({ type: "failed", view: message.view, problem: error.message });
    }
  }

  return { receive };
}
