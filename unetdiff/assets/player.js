// Puts a player into `box`, in the place of the still picture that stands there for pages that run no scripts.
// walks = {size: [width, height] of a frame, captions: [text of each frame], menus: [[name, choices], [name, choices]],
//          strips: {choice of the first menu: {choice of the second: the frames side by side, one picture}}}
(box, walks) => {
  box.innerHTML = `
    <div role="img"></div>
    <div class="player-row"><button type="button">Play</button><input type="range" min="0" aria-label="step"></div>
    <div class="player-row menus"></div>
    <output></output>`;
  const film = box.querySelector("[role=img]");
  const slider = box.querySelector("input");
  const button = box.querySelector("button");
  const caption = box.querySelector("output");
  const last = walks.captions.length - 1;
  let timer = null;

  function addMenu(name, choices) {
    const label = document.createElement("label");
    const menu = document.createElement("select");
    for (const choice of choices) menu.add(new Option(choice));
    label.append(name + " ", menu);
    box.querySelector(".menus").append(label);
    menu.addEventListener("input", show);
    return menu;
  }

  function show() { // the frame that the slider and the menus ask for
    const frame = Number(slider.value);
    const chosen = menus.map(menu => menu.value);
    film.style.backgroundImage = `url(${walks.strips[chosen[0]][chosen[1]]})`;
    film.style.backgroundPosition = `${100*frame/Math.max(1, last)}% 0`;
    film.setAttribute("aria-label", [...chosen, walks.captions[frame]].join(", "));
    caption.textContent = walks.captions[frame];
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  function next() {
    if (Number(slider.value) < last) slider.value++;
    else stop();
    show();
  }

  function playOrStop() {
    if (timer) { stop(); return; }
    if (Number(slider.value) === last) slider.value = 0;
    button.textContent = "Stop";
    timer = setInterval(next, 150);
    show();
  }

  film.style.aspectRatio = walks.size.join("/");
  film.style.backgroundSize = `${100*walks.captions.length}% 100%`;
  slider.max = last;
  slider.value = last;
  slider.addEventListener("input", show);
  button.addEventListener("click", playOrStop);
  const menus = walks.menus.map(([name, choices]) => addMenu(name, choices));
  show();
}
