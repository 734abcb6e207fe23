// Works the page as a reader would and sends what it found to the test.
const wait = (element, event) => new Promise((done) => element.addEventListener(event, done, { once: true }));

const colours = (canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
};

const drawn = async (svg) => {
  const copy = svg.cloneNode(true), picture = new Image(), canvas = document.createElement("canvas");
  const box = svg.getBoundingClientRect();
  Object.assign(canvas, { width: box.width, height: box.height });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  picture.src = "data:image/svg+xml," + encodeURIComponent(new XMLSerializer().serializeToString(copy));
  await picture.decode();
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return colours(canvas);
};

const grey = (canvas, x = 0.25) => {
  const at = [Math.floor(canvas.width * x), Math.floor(canvas.height / 4), 1, 1];
  return canvas.getContext("2d").getImageData(...at).data[0] / 255;
};

const workPlayer = async (row) => {
  const film = row.querySelector("video"), canvases = [...row.querySelectorAll("canvas")];
  const divider = row.querySelector(".divider input"), scrubber = row.querySelector(".controls input");
  const found = { link: row.querySelector("a[download]").href.slice(0, 5), steps: [] };
  const note = () => {
    const [plain, tuned, difference] = canvases.map((canvas) => grey(canvas));
    found.steps.push({ counter: row.querySelector("output").textContent, plain, tuned, difference });
  };
  note();
  // The page draws when a picture is presented; what is registered after the page's own is called after it.
  const shown = async (work) => {
    const seeked = wait(film, "seeked");
    work();
    const presented = film.requestVideoFrameCallback && new Promise((done) => film.requestVideoFrameCallback(done));
    await Promise.all([seeked, presented]);
    note();
  };
  for (const name of ["on", "on", "back"]) await shown(() => row.querySelector(`[data-do=${name}]`).click());
  await shown(() => {
    scrubber.value = 6;
    scrubber.dispatchEvent(new Event("input"));
  });
  found.divided = [0, 50, 100].map((place) => {
    divider.value = place;
    divider.dispatchEvent(new Event("input"));
    return [grey(canvases[3], 0.25), grey(canvases[3], 0.75)];
  });
  const playing = wait(film, "play");
  row.querySelector("[data-do=play]").click();
  await playing;
  found.plays = !film.paused;
  film.pause();
  return found;
};

const workChart = (plot) => {
  const tip = plot.querySelector(".tip"), spots = plot.querySelectorAll(".spot"), says = [];
  spots[0].focus();
  says.push(tip.hidden ? "" : tip.textContent);
  for (const key of ["ArrowRight", "ArrowDown", "Escape"]) {
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    says.push(tip.hidden ? "" : tip.textContent);
  }
  spots[spots.length - 1].dispatchEvent(new PointerEvent("pointerenter"));
  says.push(tip.hidden ? "" : tip.textContent);
  return says;
};

const probe = async () => {
  const films = [...document.querySelectorAll("video")];
  const ended = (film) => Promise.race([wait(film, "loadeddata"), wait(film, "error")]);
  const loaded = (film) => film.readyState >= 2 || film.error || ended(film);
  await Promise.all(films.map(loaded));
  const copy = document.querySelector(".copy");
  copy.click();
  await new Promise((done) => setTimeout(done, 100));
  const found = {
    width: innerWidth,
    room: document.documentElement.clientWidth,
    needed: document.documentElement.scrollWidth,
    plays: document.createElement("video").canPlayType('video/mp4; codecs="avc1.64001f"') !== "",
    figures: await Promise.all([...document.querySelectorAll("svg")].map(drawn)),
    chart: workChart(document.querySelector(".plot")),
    copied: copy.textContent,
    ink: getComputedStyle(document.querySelector(".picture svg")).color,
    page: getComputedStyle(document.body).backgroundColor,
  };
  if (found.plays) found.player = await workPlayer(document.querySelector(".player"));
  return found;
};

addEventListener("load", async () => {
  const found = await probe().catch((error) => ({ failed: String(error.stack) }));
  fetch("/found", { method: "POST", body: JSON.stringify({ ...found, faults }) });
});
