// Draws pictures in a browser with the network beside this page. live.json says how:
// {shape: [H, W, C], range: [black, white], labels: [...] or null, hidden: {label}, guidance, clip,
//  walks: {name of a sampler: {number of steps: {network: file, noise, guides, levels: [...]}}}}, the levels as in sampler.json.
"use strict";

const unetdiff = (() => {

  // ---- From noise to pictures. All pictures of a batch stand behind each other in one array of numbers.

  function uniform(seed) { // -> a function that gives numbers in [0, 1), the same for the same seed
    let state = seed >>> 0;
    return () => {
      state = (state + 0x9e3779b9) >>> 0;
      let v = Math.imul(state ^ state >>> 16, 0x21f0aaad);
      v = Math.imul(v ^ v >>> 15, 0x735a2d97);
      return ((v ^ v >>> 15) >>> 0)/2**32;
    };
  }

  function normal(random, n) { // n standard normal numbers, by the formula of Box and Muller
    return Float32Array.from({length: n}, () => Math.sqrt(-2*Math.log(1 - random()))*Math.cos(2*Math.PI*random()));
  }

  async function estimate(model, walk, level, x, label) { // of the clean pictures
    const {about, ort} = model, n = x.length/size(about);
    const times = [level.t].flat(); // two, where the network is told the end of the step as well
    const feeds = {x: new ort.Tensor("float32", x.map(v => level.scale*v), [n, ...about.shape]),
                   t: new ort.Tensor("float32", Float32Array.from({length: n*times.length}, (_, i) => times[i % times.length]), times.length > 1 ? [n, 2] : [n])};
    if (about.labels) feeds.label = new ort.Tensor("int32", new Int32Array(n).fill(label), [n]);
    const prediction = (await model.networks[walk.network].run(feeds)).prediction.data;
    return x.map((v, i) => level.of_x*v + level.of_prediction*prediction[i]);
  }

  async function sample(model, walk, z, {label = model.about.hidden.label, guidance = 1, known = [], fresh, seed = 0, each = () => {}} = {}) {
    const {about} = model, [black, white] = about.range, random = uniform(seed + 1);
    let x = z.map(v => walk.noise*v), before = x.map(() => 0);
    for (const [i, level] of walk.levels.entries()) {
      const w = level.guided && label !== about.hidden.label ? guidance : 1;
      let D = await estimate(model, walk, level, x, label);
      if (w !== 1) {
        const untold = await estimate(model, walk, level, x, about.hidden.label);
        D = D.map((v, j) => w*v + (1 - w)*untold[j]);
      }
      if (about.clip) D = D.map(v => Math.min(Math.max(v, black), white));
      D = D.map((v, j) => known[j % size(about)] ?? v); // pixels that are known; null where they are not
      const [a, b, c, d] = level.step;
      const noise = d === 0 ? x : fresh ? fresh[i] : normal(random, x.length);
      x = x.map((v, j) => a*v + b*D[j] + c*before[j] + d*noise[j]);
      before = D;
      if (await each(i + 1, x, D) === false) return null; // no longer wanted
    }
    return x;
  }

  const size = about => about.shape.reduce((a, b) => a*b);

  // ---- What is loaded when the button is pressed

  function script(address) {
    return new Promise((done, fail) => {
      const element = document.createElement("script");
      element.src = address;
      element.onload = done;
      element.onerror = () => fail(new Error(`${address} could not be loaded. Is there a network?`));
      document.head.append(element);
    });
  }

  async function content(address, kind) {
    const answer = await fetch(address).catch(() => ({ok: false}));
    if (!answer.ok) throw new Error(`${address} could not be loaded.`);
    return answer[kind]();
  }

  async function load(runtime) { // the address of onnxruntime-web's files
    if (typeof WebAssembly === "undefined") throw new Error("This browser has no WebAssembly, in which the network runs. Any browser since 2018 has.");
    if (location.protocol === "file:") throw new Error("A page from a file may load nothing. Serve its folder: python -m http.server");
    const about = await content("live.json", "json");
    if (!window.ort) await script(runtime + "ort.wasm.min.js");
    ort.env.wasm.wasmPaths = runtime;
    ort.env.wasm.numThreads = 1; // more would need headers that not every host sends
    const files = new Set(Object.values(about.walks).flatMap(walks => Object.values(walks).map(walk => walk.network)));
    const networks = {};
    for (const file of files) networks[file] = await ort.InferenceSession.create(await content(file, "arrayBuffer"));
    return {about, networks, ort};
  }

  // ---- What is seen

  function paint(canvas, x, {shape: [H, W, C], range: [black, white]}, cols) { // pictures, `cols` in a row, on a canvas
    const n = x.length/(H*W*C), rows = Math.ceil(n/cols), gap = 1;
    canvas.width = cols*(W + gap) - gap;
    canvas.height = rows*(H + gap) - gap;
    const pen = canvas.getContext("2d");
    for (let k = 0; k < n; k++) {
      const image = new ImageData(W, H);
      for (let i = 0; i < H*W; i++) {
        for (let c = 0; c < 3; c++) image.data[4*i + c] = 255*(x[(k*H*W + i)*C + Math.min(c, C - 1)] - black)/(white - black);
        image.data[4*i + 3] = 255;
      }
      pen.putImageData(image, k % cols*(W + gap), Math.floor(k/cols)*(H + gap));
    }
  }

  function editor(canvas, said, {shape: [H, W, C], range: [black, white]}) { // a picture to draw on with mouse, finger or keys
    const pixels = new Float32Array(H*W*C).fill(black);
    let row = 0, column = 0, ink = null, part = () => true;
    const show = () => {
      paint(canvas, pixels.map((v, i) => part(Math.floor(i/C/W), Math.floor(i/C) % W) ? v : (3*black + white)/4), {shape: [H, W, C], range: [black, white]}, 1);
      if (document.activeElement !== canvas) return;
      const pen = canvas.getContext("2d");
      pen.fillStyle = "rgb(255 80 0 / .6)";
      pen.fillRect(column, row, 1, 1);
    };
    const put = (i, j, v) => { if (part(i, j)) pixels.fill(v, (i*W + j)*C, (i*W + j + 1)*C); };
    function set(v) { // ink has soft edges; what takes it away has none
      if (v === black) put(row, column, black);
      else for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) {
        const much = Math.min(1, 1.3 - Math.hypot(i - row, j - column)/Math.max(1, H/28));
        put(i, j, Math.max(pixels[(i*W + j)*C], black + much*(white - black)));
      }
      show();
    }
    const here = () => pixels[(row*W + column)*C];
    const to = event => {
      const box = canvas.getBoundingClientRect(), place = (v, n) => Math.min(n - 1, Math.max(0, Math.floor(v*n)));
      column = place((event.clientX - box.left)/box.width, W);
      row = place((event.clientY - box.top)/box.height, H);
    };
    canvas.addEventListener("pointerdown", event => { to(event); ink = here() > (black + white)/2 ? black : white; canvas.setPointerCapture(event.pointerId); set(ink); });
    canvas.addEventListener("pointermove", event => { if (ink !== null) { to(event); set(ink); } });
    canvas.addEventListener("pointerup", () => { ink = null; });
    canvas.addEventListener("pointercancel", () => { ink = null; });
    canvas.addEventListener("keydown", event => {
      const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
      if (move) { row = (row + move[0] + H) % H; column = (column + move[1] + W) % W; show(); }
      else if (event.key === " " || event.key === "Enter") set(here() > (black + white)/2 ? black : white);
      else return;
      event.preventDefault();
      said.textContent = `Row ${row + 1}, column ${column + 1}: ${part(row, column) ? here() > black ? "ink" : "no ink" : "for the model"}`;
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, show);
    show();
    return {clear: () => { pixels.fill(black); show(); }, half: f => { part = f; show(); },
            known: () => Array.from(pixels, (v, i) => part(Math.floor(i/C/W), Math.floor(i/C) % W) ? v : null)};
  }

  const halves = {left: (H, W) => (i, j) => j < W/2, top: (H, W) => (i, j) => i < H/2, right: (H, W) => (i, j) => j >= W/2, bottom: (H, W) => (i, j) => i >= H/2};

  function fill(menu, choices, chosen) { // [[value, text], ...]
    menu.replaceChildren(...choices.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
  }

  function start(page) { // the page's elements go by their ids
    const at = id => page.querySelector("#" + id), n = 16;
    let model, draft, turn = 0, path = [];

    const walks = () => model.about.walks[at("sampler").value];
    const walk = () => walks()[at("steps").value];
    function offerSteps() {
      const counts = Object.keys(walks());
      at("guides").hidden = !model.about.labels || !walks()[counts[0]].guides; // a student's guidance is inside
      fill(at("steps"), counts.map(v => [v, v]), counts.includes(at("steps").value) ? at("steps").value : counts[Math.min(1, counts.length - 1)]);
    }
    function show(k) { // how far the walk has come after k steps
      const [x, D] = path[k - 1];
      paint(at("noisy"), x, model.about, 4);
      paint(at("guess"), D, model.about, 4);
    }
    async function draw(known) {
      const mine = ++turn, {about} = model, seed = Number(at("seed").value) || 0, steps = walk().levels.length;
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches, begun = performance.now();
      const label = at("label").value === "" ? about.hidden.label : Number(at("label").value);
      path = [];
      at("results").hidden = false;
      at("results").scrollIntoView({block: "nearest", behavior: still ? "auto" : "smooth"});
      at("step").max = steps;
      const each = async (k, x, D) => {
        if (mine !== turn) return false; // another walk has begun
        path.push([x, D]);
        at("step").value = k;
        at("said").textContent = `Step ${k} of ${steps}`;
        if (!still || k === steps) show(k);
        await new Promise(done => setTimeout(done)); // lets the browser paint
      };
      const z = normal(uniform(seed), n*size(about));
      const x = await sample(model, walk(), z, {label, guidance: walk().guides ? Number(at("guidance").value) : 1, known, seed, each});
      if (x) at("said").textContent = `${n} pictures, ${steps} step${steps > 1 ? "s" : ""}, ${Math.round((performance.now() - begun)/steps)} ms a step`;
    }
    const failed = error => { at("said").textContent = error.message; at("load").disabled = false; };

    at("load").addEventListener("click", async () => {
      at("load").disabled = true;
      at("said").textContent = "Loading ...";
      try { model = await load(page.dataset.runtime); } catch (error) { return failed(error); }
      const {about} = model, [H, W] = about.shape;
      at("load").hidden = true;
      at("tools").hidden = false;
      const seen = (about.labels ?? []).map((v, i) => [i, v]).filter(([i]) => about.label_shares[i] > 0); // of the others there were no pictures
      fill(at("label"), [...seen, ["", "any"]], seen.length ? seen[0][0] : "");
      at("told").hidden = !about.labels;
      fill(at("sampler"), Object.keys(about.walks).map(v => [v, v]));
      at("guidance").value = about.guidance;
      offerSteps();
      draft = editor(at("draft"), at("said"), about);
      draft.half(halves.left(H, W));
      draw().catch(failed);
    });
    at("sampler").addEventListener("input", offerSteps);
    at("step").addEventListener("input", () => show(Math.max(1, Math.min(path.length, Number(at("step").value)))));
    at("draw").addEventListener("click", () => draw().catch(failed));
    at("another").addEventListener("click", () => { at("seed").value = Number(at("seed").value) + 1; draw().catch(failed); });
    at("finish").addEventListener("click", () => draw(draft.known()).catch(failed));
    at("clear").addEventListener("click", () => draft.clear());
    at("half").addEventListener("input", () => draft.half(halves[at("half").value](...model.about.shape)));
  }

  return {start, load, sample};
})();
