// Points of a chart say their values under the pointer and under the keyboard: left and right go along a line, up and
// down to the nearest point of the next one.
for (const plot of document.querySelectorAll(".plot")) {
  const spots = [...plot.querySelectorAll(".spot")];
  const tip = plot.querySelector(".tip");
  const across = (spot) => spot.getBoundingClientRect().x;
  const series = (number) => spots.filter((spot) => Number(spot.dataset.series) === number);

  const hide = () => {
    tip.hidden = true;
    spots.forEach((spot) => spot.classList.remove("shown"));
  };
  const show = (spot) => {
    hide();
    spot.classList.add("shown");
    tip.textContent = spot.getAttribute("aria-label");
    tip.hidden = false;
    const box = plot.getBoundingClientRect(), at = spot.getBoundingClientRect();
    const x = at.x + at.width / 2 - box.x, y = at.y - box.y;
    const most = Math.max(0, box.width - tip.offsetWidth);
    tip.style.left = `${Math.min(most, Math.max(0, x - tip.offsetWidth / 2))}px`;
    tip.style.top = `${y > tip.offsetHeight + 8 ? y - tip.offsetHeight - 8 : y + at.height + 8}px`;
  };
  const go = (spot, key) => {
    const own = Number(spot.dataset.series), line = series(own), place = line.indexOf(spot);
    if (key === "ArrowLeft") return line[place - 1];
    if (key === "ArrowRight") return line[place + 1];
    const others = series(own + (key === "ArrowUp" ? -1 : 1));
    return others.sort((a, b) => Math.abs(across(a) - across(spot)) - Math.abs(across(b) - across(spot)))[0];
  };

  for (const spot of spots) {
    spot.querySelector("title").remove(); // the tip says it
    spot.addEventListener("pointerenter", () => show(spot));
    spot.addEventListener("pointerleave", hide);
    spot.addEventListener("focus", () => show(spot));
    spot.addEventListener("blur", hide);
    spot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      const next = go(spot, event.key);
      if (!next) return;
      series(Number(next.dataset.series)).forEach((one) => one.setAttribute("tabindex", one === next ? 0 : -1));
      next.focus();
    });
  }
}
