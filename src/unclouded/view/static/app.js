// The viewer's page. What comes from results is only ever set as text, never as markup.

const PIXEL_ZOOM = 8; // tiles.py: zoom level of a tile whose pixels are those of a scene without position
const element = (id) => document.getElementById(id);
const opacity = new Map([["image", 1], ["mask", 0.6]]);
const visible = new Set(["image", "mask"]);

let results = [];
let current = null; // the result that is shown
let map = null;
let layers = new Map(); // name -> Leaflet layer
let share = 0.5; // place of the divider
let asked = 0;

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", text, { value })));
  select.value = chosen;
}

function boundsOf(result) {
  if (result.bounds) {
    const [west, south, east, north] = result.bounds;
    return L.latLngBounds([south, west], [north, east]);
  }
  const [width, height] = result.size;
  return L.latLngBounds([-height, 0], [0, width]);
}

function startMap(result) {
  if (map) map.remove();
  const placed = Boolean(result.bounds);
  map = L.map("map", {
    crs: placed ? L.CRS.EPSG3857 : L.CRS.Simple, minZoom: placed ? 0 : -PIXEL_ZOOM, maxZoom: placed ? 20 : 5,
    attributionControl: false, zoomSnap: 1, zoomAnimation: false, fadeAnimation: false,
  });
  map.placed = placed;
  if (placed) L.control.scale({ imperial: false }).addTo(map);
  map.on("click", (event) => showValues(event.latlng));
  map.on("move zoom resize viewreset", clip);
  map.fitBounds(boundsOf(result));
  if (!placed) return;
  for (const one of results) {
    if (!one.bounds) continue;
    L.rectangle(boundsOf(one), { color: "#2a78b8", weight: 1, fill: false, interactive: false }).addTo(map);
  }
}

function show(index) {
  const result = results[index];
  const moved = !map || map.placed !== Boolean(result.bounds) || !map.getBounds().intersects(boundsOf(result));
  current = result;
  if (moved || !map.placed) startMap(result);
  for (const layer of layers.values()) layer.remove();
  layers = new Map();
  result.layers.forEach((one, place) => {
    const pane = map.getPane(one.name) || map.createPane(one.name);
    pane.style.zIndex = 210 + place;
    const address = `/tiles/${result.key}/${encodeURIComponent(one.name)}/{z}/{x}/{y}.png`;
    const layer = L.tileLayer(address, {
      pane: one.name, bounds: boundsOf(result), opacity: opacity.get(one.name) ?? 1,
      minZoom: map.getMinZoom(), maxZoom: map.getMaxZoom(), minNativeZoom: map.placed ? 0 : -PIXEL_ZOOM,
      maxNativeZoom: map.placed ? 20 : 0, zoomOffset: map.placed ? 0 : PIXEL_ZOOM,
    });
    layer.once("tileerror", (event) => tellWhy(event.tile.src, one.title));
    layers.set(one.name, layer);
  });
  element("result").value = String(index);
  element("time").value = String(index);
  element("time").setAttribute("aria-valuetext", result.datetime || result.id);
  describe(result);
  controls(result);
  arrange();
  drawChart();
  element("values").replaceChildren();
  element("hint").hidden = false;
}

function moment(datetime) {
  const [, day, minute] = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*Z$/.exec(datetime) ?? [];
  return day ? `${day} ${minute} UTC` : datetime || "time not known";
}

async function tellWhy(address, title) {
  const answer = await fetch(address);
  if (answer.status !== 422) return; // a tile without anything in it, or one that works by now
  const { found } = await answer.json();
  element("warnings").append(make("p", `${title}: ${found}`));
}

function describe(result) {
  const cover = result.cloud_percent === null ? "" : `, ${result.cloud_percent.toFixed(1)} % cloud`;
  element("about").textContent = `${moment(result.datetime)}${cover}`;
  element("about").title = result.facts.map(([title, text]) => `${title}: ${text}`).join("\n");
  element("warnings").replaceChildren(...result.warnings.map((text) => make("p", text)));
}

function controls(result) {
  element("layers").replaceChildren(...result.layers.map((one) => {
    const row = make("div", undefined, { class: "layer" });
    const label = make("label");
    const box = make("input", undefined, { type: "checkbox", "data-layer": one.name });
    box.checked = visible.has(one.name);
    box.addEventListener("change", () => {
      visible[box.checked ? "add" : "delete"](one.name);
      arrange();
    });
    label.append(box, one.title);
    const slider = make("input", undefined, { type: "range", min: 0, max: 1, step: 0.05, "data-opacity": one.name });
    slider.setAttribute("aria-label", `opacity of ${one.title}`);
    slider.value = String(opacity.get(one.name) ?? 1);
    slider.addEventListener("input", () => {
      opacity.set(one.name, Number(slider.value));
      layers.get(one.name).setOpacity(Number(slider.value));
    });
    row.append(label, slider);
    return row;
  }));
  const entries = result.layers.map((one) => [one.name, one.title]);
  const names = entries.map(([name]) => name);
  const kept = (select, otherwise) => (names.includes(select.value) ? select.value : otherwise);
  options(element("left"), entries, kept(element("left"), names[0]));
  options(element("right"), entries, kept(element("right"), names[1] ?? names[0]));
}

function shown() {
  if (element("swiping").checked) return new Set([element("left").value, element("right").value]);
  return new Set(current.layers.map((one) => one.name).filter((name) => visible.has(name)));
}

function arrange() {
  const wanted = shown();
  for (const [name, layer] of layers) wanted.has(name) ? layer.addTo(map) : layer.remove();
  element("divider").hidden = !element("swiping").checked;
  clip();
  drawLegend(wanted);
}

function clip() {
  if (!current) return;
  const swiping = element("swiping").checked;
  const [left, right] = [element("left").value, element("right").value];
  const size = map.getSize();
  const from = map.containerPointToLayerPoint([0, 0]);
  const to = map.containerPointToLayerPoint(size);
  const middle = from.x + size.x * share;
  for (const { name } of current.layers) {
    const start = name === right && left !== right ? middle : from.x;
    const end = name === left && left !== right ? middle : to.x;
    const corners = [[start, from.y], [end, from.y], [end, to.y], [start, to.y]];
    const shape = `polygon(${corners.map(([x, y]) => `${x}px ${y}px`).join(",")})`;
    const pane = map.getPane(name); // a new map moves before it has panes
    if (pane) pane.style.clipPath = swiping ? shape : "";
  }
  element("divider").style.left = `${share * 100}%`;
  element("divider").setAttribute("aria-valuenow", String(Math.round(share * 100)));
}

function drawLegend(wanted) {
  const parts = [];
  for (const one of current.layers.filter(({ name }) => wanted.has(name))) {
    if (one.legend) {
      parts.push(make("h2", one.title));
      for (const { colour, title } of one.legend) {
        const row = make("div");
        const swatch = make("span", undefined, { class: "swatch" });
        swatch.style.backgroundColor = colour;
        row.append(swatch, title);
        parts.push(row);
      }
    } else if (one.range) {
      const row = make("div");
      const ramp = make("span", undefined, { class: "ramp" });
      ramp.style.background = `linear-gradient(to right, ${one.ramp.join(",")})`;
      row.append(String(one.range[0]), ramp, String(Number(one.range[1].toPrecision(3))));
      parts.push(make("h2", one.title), row);
    }
  }
  element("legend").replaceChildren(...parts);
}

function drawChart() {
  const spots = results
    .map((one, index) => ({ index, cover: one.cloud_percent, moment: Date.parse(one.datetime), id: one.id }))
    .filter((one) => one.cover !== null && Number.isFinite(one.moment));
  const moments = spots.map((one) => one.moment);
  const [first, last] = [Math.min(...moments), Math.max(...moments)];
  const x = (moment) => (first === last ? 165 : 40 + (250 * (moment - first)) / (last - first));
  const y = (cover) => 75 - 0.65 * cover;
  const parts = [0, 50, 100].flatMap((cover) => [
    drawn("line", { x1: 34, x2: 296, y1: y(cover), y2: y(cover) }),
    drawn("text", { x: 0, y: y(cover) + 3 }, `${cover} %`),
  ]);
  const day = (moment) => new Date(moment).toISOString().slice(0, 10);
  if (first < last) {
    parts.push(drawn("text", { x: 34, y: 94 }, day(first)), drawn("text", { x: 296, y: 94, "text-anchor": "end" }, day(last)));
  } else if (spots.length) {
    parts.push(drawn("text", { x: 165, y: 94, "text-anchor": "middle" }, day(first)));
  }
  parts.push(drawn("polyline", { points: spots.map((one) => `${x(one.moment)},${y(one.cover)}`).join(" ") }));
  for (const one of spots) {
    const on = results[one.index] === current;
    const dot = drawn("circle", { cx: x(one.moment), cy: y(one.cover), r: on ? 6 : 4, class: on ? "on" : "" });
    dot.append(drawn("title", {}, `${one.id}: ${one.cover.toFixed(1)} %`));
    dot.addEventListener("click", () => show(one.index));
    parts.push(dot);
  }
  element("chart").replaceChildren(...parts);
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

async function showValues(at) {
  const [x, y] = map.placed ? [L.Util.wrapNum(at.lng, [-180, 180], true), at.lat] : [at.lng, -at.lat];
  const mine = ++asked;
  const told = await fetched(`/values/${current.key}?x=${x}&y=${y}`);
  if (mine !== asked) return; // a later click has been asked for meanwhile
  const rows = told.flatMap(({ layer, values }) => values.map(({ name, text }) => {
    const row = make("tr");
    row.append(make("th", values.length > 1 ? `${layer}, ${name}` : layer), make("td", text));
    return row;
  }));
  element("hint").hidden = true;
  element("values").replaceChildren(...(rows.length ? rows : [make("caption", "Nothing here.")]));
}

function moveDivider(event) {
  const box = element("map").getBoundingClientRect();
  share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  clip();
}

async function start() {
  results = (await fetched("/api/results")).filter((one) => one.size);
  if (!results.length) {
    element("about").textContent = "There is no result in this folder.";
    return;
  }
  options(element("result"), results.map((one, index) => [String(index), one.id]), "0");
  element("result").addEventListener("change", (event) => show(Number(event.target.value)));
  element("series").hidden = results.length < 2;
  element("time").max = String(results.length - 1);
  element("time").addEventListener("input", (event) => show(Number(event.target.value)));
  for (const id of ["swiping", "left", "right"]) element(id).addEventListener("change", arrange);
  const divider = element("divider");
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => divider.hasPointerCapture(event.pointerId) && moveDivider(event));
  divider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (!step) return;
    share = Math.min(1, Math.max(0, share + step));
    clip();
  });
  show(0);
}

start().catch((error) => {
  element("about").textContent = `The results cannot be shown: ${error.message}`;
});
