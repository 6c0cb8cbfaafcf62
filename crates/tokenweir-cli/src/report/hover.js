// Shows the values under the pointer. Everything can be read without it.
(() => {
  const tip = document.getElementById("tip");
  const number = new Intl.NumberFormat("en");
  for (const svg of document.querySelectorAll("svg[data-steps]")) {
    const of = (name) => Number(svg.dataset[name]);
    const steps = of("steps"), left = of("left"), width = of("width");
    const series = [...svg.attributes].filter((data) => data.name.startsWith("data-s-"))
      .map((data) => [data.name.slice(7).replace("-", " "), data.value.split(",")]);
    const cursor = document.createElementNS(svg.namespaceURI, "path");
    cursor.setAttribute("class", "cursor");
    svg.append(cursor);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      const step = Math.floor((x - left) / width * steps);
      if (step < 0 || step >= steps) return leave();
      const middle = left + (step + 0.5) * width / steps;
      cursor.setAttribute("d", `M${middle} ${of("top")}V${of("base")}`);
      const from = new Date(of("start") + step * of("step")).toISOString().replace("T", " ").replace(/(\.000)?Z$/, "");
      const lines = series.filter(([, values]) => values[step] !== "")
        .map(([name, values]) => `${name}: ${number.format(values[step])}`);
      if (svg.dataset.limit) lines.push(`limit: ${number.format(of("limit"))}`);
      tip.textContent = [from, ...lines].join("\n");
      tip.hidden = false;
      const right = event.clientX + 14 + tip.offsetWidth > innerWidth;
      tip.style.left = `${right ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14}px`;
      tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4)}px`;
    });
    const leave = () => { tip.hidden = true; cursor.removeAttribute("d"); };
    svg.addEventListener("pointerleave", leave);
  }
})();
