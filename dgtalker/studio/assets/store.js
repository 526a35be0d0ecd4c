// One store per page, shared by the gallery, the viewport and the sliders: what the user sees lives here, not on the server.
const store = (window.dgtalker ??= (() => {
  const listeners = new Set();
  const remembered = {}; // sliders of each identity, so that coming back finds them as they were left
  const state = { identity: null, exp: [], lip: [], blink: 0, yaw: 0, pitch: 0, zoom: 1 };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const emit = (what) => listeners.forEach((listener) => listener(what, state));
  return {
    state,
    clamp,
    limits: { yaw: 90, pitch: 40, zoom: [0.6, 3], coefficient: 3 },
    subscribe(listener) { listeners.add(listener); return () => listeners.delete(listener); },
    failure: "",
    fail(sentence) { this.failure = sentence; emit("failed"); },
    setIdentity(identity) {
      if (state.identity) remembered[state.identity.name] = { exp: state.exp, lip: state.lip, blink: state.blink };
      const zeros = (names) => names.map(() => 0);
      const fresh = { exp: zeros(identity.exp_names), lip: zeros(identity.lip_names), blink: 0 };
      const known = remembered[identity.name];
      const fits = known && known.exp.length === fresh.exp.length && known.lip.length === fresh.lip.length;
      Object.assign(state, { identity }, fits ? known : fresh);
      emit("identity");
    },
    setCoefficient(group, index, value) {
      if (group === "blink") state.blink = value;
      else state[group][index] = value;
      emit("coefficients");
    },
    reset(group) {
      if (group !== "lip") { state.exp = state.exp.map(() => 0); state.blink = 0; }
      if (group !== "exp") state.lip = state.lip.map(() => 0);
      emit("reset");
    },
    setCamera(change) {
      const { yaw, pitch, zoom } = { ...state, ...change };
      state.yaw = clamp(yaw, -this.limits.yaw, this.limits.yaw);
      state.pitch = clamp(pitch, -this.limits.pitch, this.limits.pitch);
      state.zoom = clamp(zoom, ...this.limits.zoom);
      emit("camera");
    },
    // Everything a render or a video needs, as plain data.
    view(extra = {}) {
      const { exp, lip, blink, yaw, pitch, zoom } = state;
      return { identity: state.identity?.name ?? null, exp: [...exp], lip: [...lip], blink, yaw, pitch, zoom, ...extra };
    },
  };
})());
