"use strict";
// A film holds plain, tuned and difference side by side: one clock, so that they cannot drift apart. Without this
// script the film itself is shown with the browser's controls.
const players = [...document.querySelectorAll(".player")].map((row) => {
  const film = row.querySelector("video");
  const fps = Number(row.dataset.fps), frames = Number(row.dataset.frames), tiles = Number(row.dataset.tiles);
  const canvases = [...row.querySelectorAll("canvas")];
  const divider = row.querySelector(".divider input");
  const scrubber = row.querySelector(".controls input");
  const counter = row.querySelector("output");
  const play = row.querySelector("[data-do=play]");

  const frame = () => Math.min(frames - 1, Math.floor(film.currentTime * fps + 0.01));
  const draw = () => {
    const width = film.videoWidth / tiles, height = film.videoHeight;
    canvases.forEach((canvas, tile) => {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const ink = canvas.getContext("2d");
      if (tile < tiles) {
        ink.drawImage(film, tile * width, 0, width, height, 0, 0, width, height);
        return;
      }
      const edge = Math.round((width * divider.value) / 100);
      if (edge > 0) ink.drawImage(film, 0, 0, edge, height, 0, 0, edge, height);
      if (edge < width) ink.drawImage(film, width + edge, 0, width - edge, height, edge, 0, width - edge, height);
      const line = Math.max(2, width / 128);
      ink.fillStyle = "#fff";
      ink.fillRect(edge - line / 2, 0, line, height);
      ink.beginPath();
      ink.arc(edge, height / 2, 3 * line, 0, 2 * Math.PI);
      ink.fill();
    });
    scrubber.value = frame() + 1;
    counter.textContent = `frame ${frame() + 1} of ${frames}`;
  };
  const follow = () => {
    draw();
    if (!film.paused) requestAnimationFrame(follow);
  };
  const show = (index) => {
    film.pause();
    // "seeked" may come before the picture does.
    if (film.requestVideoFrameCallback) film.requestVideoFrameCallback(draw);
    film.currentTime = ((index + frames) % frames + 0.5) / fps;
  };
  const toggle = (on) => (on ? film.play().catch(() => {}) : film.pause());

  film.addEventListener("loadeddata", () => {
    row.dataset.ready = "";
    row.querySelector(".panels").hidden = row.querySelector(".controls").hidden = false;
    draw();
  });
  film.addEventListener("seeked", draw);
  film.addEventListener("play", () => {
    play.textContent = "\u275a\u275a";
    play.setAttribute("aria-label", "Pause");
    follow();
  });
  film.addEventListener("pause", () => {
    play.textContent = "\u25b6";
    play.setAttribute("aria-label", "Play");
  });
  play.addEventListener("click", () => toggle(film.paused));
  row.querySelector("[data-do=back]").addEventListener("click", () => show(frame() - 1));
  row.querySelector("[data-do=on]").addEventListener("click", () => show(frame() + 1));
  scrubber.addEventListener("input", () => show(scrubber.value - 1));
  divider.addEventListener("input", draw);

  const bytes = Uint8Array.from(atob(film.src.slice(film.src.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
  film.src = row.querySelector("a[download]").href = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  return { film, toggle };
});

const playAll = document.getElementById("play-all");
if (playAll) {
  const running = () => players.some(({ film }) => !film.paused);
  const name = () => (playAll.textContent = running() ? "Pause all" : "Play all");
  playAll.hidden = false;
  playAll.addEventListener("click", () => {
    const on = !running();
    players.forEach(({ toggle }) => toggle(on));
  });
  players.forEach(({ film }) => ["play", "pause"].forEach((event) => film.addEventListener(event, name)));
}
