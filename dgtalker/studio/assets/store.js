// One store per page, shared by the gallery, the viewport and the sliders: what the user sees lives here, not on the server.
const store = (window.dgtalker ??= (() => {
  const listeners = new Set();
  const slidersByIdentity = {}; // so that coming back to an identity finds them as they were left
  const state = { identity: null, exp: [], lip: [], blink: 0, face: [], yaw: 0, pitch: 0, zoom: 1 };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const notify = (what) => { listeners.forEach((listener) => listener(what, state)); saveView(); };
  // A reload finds everything as it was. In this tab only: a shared computer shows nobody what another one did.
  const STORAGE = "dgtalker-view-1";
  let saveTimer = 0;
  function saveView() {
    clearTimeout(saveTimer);
    saveTimer = setTimeout(() => {
      if (!state.identity) return;
      const { identity, exp, lip, blink, face, yaw, pitch, zoom } = state;
      const sliders = { ...slidersByIdentity, [identity.name]: { exp, lip, blink, face } };
      try { sessionStorage.setItem(STORAGE, JSON.stringify({ identity: identity.name, sliders, yaw, pitch, zoom })); } catch { /* storage is off */ }
    }, 100);
  }
  function readSavedView() {
    const number = (value, low, high, fallback) => (Number.isFinite(value) ? clamp(value, low, high) : fallback);
    const numbers = (values) => (Array.isArray(values) ? values.map((value) => number(value, -3, 3, 0)) : []);
    try {
      const found = JSON.parse(sessionStorage.getItem(STORAGE)) ?? {};
      for (const [name, { exp, lip, blink, face }] of Object.entries(found.sliders ?? {})) slidersByIdentity[name] = { exp: numbers(exp), lip: numbers(lip), blink: number(blink, 0, 1, 0), face: numbers(face).map((value) => clamp(value, 0, 1)) };
      Object.assign(state, { yaw: number(found.yaw, -90, 90, 0), pitch: number(found.pitch, -40, 40, 0), zoom: number(found.zoom, 0.6, 3, 1) });
      return typeof found.identity === "string" ? found.identity : null;
    } catch { return null; } // storage is off, or holds something else
  }
  return {
    state,
    clamp,
    limits: { yaw: 90, pitch: 40, zoom: [0.6, 3], coefficient: 3 },
    // listener(what, state) is called after a change of: identity, coefficients, reset, camera, requestedIdentity, failed.
    subscribe(listener) { listeners.add(listener); return () => listeners.delete(listener); },
    requestedIdentity: readSavedView(), // name of the one that the gallery is to open
    failure: "",
    fail(sentence) { this.failure = sentence; notify("failed"); },
    setIdentity(identity) {
      if (state.identity) slidersByIdentity[state.identity.name] = { exp: state.exp, lip: state.lip, blink: state.blink, face: state.face };
      const zeros = (names) => names.map(() => 0);
      const fresh = { exp: zeros(identity.exp_names), lip: zeros(identity.lip_names), blink: 0, face: zeros(identity.face_names ?? []) };
      const saved = slidersByIdentity[identity.name];
      const fits = saved && saved.exp.length === fresh.exp.length && saved.lip.length === fresh.lip.length;
      Object.assign(state, { identity }, fits ? saved : fresh);
      if (state.face?.length !== fresh.face.length) state.face = fresh.face; // saved before the head had face controls
      notify("identity");
    },
    setCoefficient(group, index, value) {
      if (group === "blink") state.blink = value;
      else state[group][index] = value;
      notify("coefficients");
    },
    reset(group) {
      const resets = (name) => group === name || group === "all";
      if (resets("exp")) { state.exp = state.exp.map(() => 0); state.blink = 0; }
      if (resets("lip")) state.lip = state.lip.map(() => 0);
      if (resets("face")) state.face = state.face.map(() => 0);
      notify("reset");
    },
    setCamera(change) {
      const { yaw, pitch, zoom } = { ...state, ...change };
      state.yaw = clamp(yaw, -this.limits.yaw, this.limits.yaw);
      state.pitch = clamp(pitch, -this.limits.pitch, this.limits.pitch);
      state.zoom = clamp(zoom, ...this.limits.zoom);
      notify("camera");
    },
    // Shows the view of a loaded session; the gallery opens its identity.
    restore({ identity, exp, lip, blink, face = [], yaw, pitch, zoom }) {
      this.requestedIdentity = identity;
      if (state.identity?.name === identity) { Object.assign(state, { exp, lip, blink, face }); notify("reset"); }
      else slidersByIdentity[identity] = { exp, lip, blink, face };
      this.setCamera({ yaw, pitch, zoom });
      notify("requestedIdentity");
    },
    // Takes the server's answer to Save or Load, as JSON.
    receive(text) {
      const { restore, download } = JSON.parse(text || "{}");
      if (restore) this.restore(restore);
      if (!download) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([download.text], { type: "application/json" }));
      link.download = download.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    },
    // Everything a render or a video needs, as plain data.
    view(extra = {}) {
      const { exp, lip, blink, face, yaw, pitch, zoom } = state;
      return { identity: state.identity?.name ?? null, exp: [...exp], lip: [...lip], blink, face: [...face], yaw, pitch, zoom, ...extra };
    },
  };
})());
