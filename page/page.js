"use strict";
const find = name => document.getElementById(name);
const pictures = [];
let limits, shown = null, working = false;

// Results. Each picture has results by their address: {id, source, result, note}, or {error}.

function query(picture, model) {
  const words = new URLSearchParams({model, name: picture.file.name});
  for (const [name, slider] of Object.entries(limits.sliders)) {
    if (slider.models.includes(model)) words.set(name, chosen(find(name)));
  }
  return words.toString();
}

const result = (picture, model) => picture.results.get(query(picture, model));

async function compute(picture, address) {
  const job = Math.random().toString(36).slice(2);
  let ended = false;
  const timer = setInterval(async () => {
    const answer = await fetch(`progress/${job}`).catch(() => null);
    if (!answer || !answer.ok) return;
    const {before, done, total} = await answer.json();
    if (ended) return;
    picture.progress = before ? `${before} before it` : total ? `${Math.floor(100 * done / total)} %` : "";
    update();
  }, 500);
  try {
    const answer = await fetch(`results?${address}&job=${job}`, {method: "PUT", body: picture.file});
    if (!answer.ok) throw Error((await answer.text()).trim());
    picture.results.set(address, await answer.json());
  } catch (error) {
    picture.results.set(address, {error: error.message});
  } finally {
    ended = true;
    clearInterval(timer);
    picture.progress = "";
  }
}

/** Return what is made next, [picture, address]: both sides of the picture in view, then what can be downloaded. */
function next() {
  for (const picture of shown ? [shown, ...pictures] : []) {
    const models = picture === shown ? [find("left").value, find("right").value] : [find("right").value];
    if (picture.ready === undefined) return null;  // its preview, which calls work(), is not there yet
    for (const model of models) if (picture.ready && !result(picture, model)) return [picture, query(picture, model)];
  }
  return null;
}

async function work() {  // one request at a time, since others share the server's places
  if (working) return;
  working = true;
  for (let job = next(); job; job = next()) {
    update();
    await compute(...job);
  }
  working = false;
  update();
}

function refresh() {
  update();
  work();
}

// The list

function refusal(picture) {
  const {width, height, file} = picture;
  const command = `; on your computer, python upscale.py "${file.name}" takes it`;
  if (file.size > limits.megabytes * 2 ** 20) return `larger than ${limits.megabytes} MB, the limit of this page${command}`;
  if (!(width * height > limits.megapixels * 1e6)) return "";
  return `${width}x${height} are more than ${limits.megapixels} megapixels, the limit of this page${command}`;
}

function add(files) {
  const first = pictures.length;
  for (const file of files) {
    const row = document.createElement("li"), name = document.createElement("button");
    const save = document.createElement("button"), state = document.createElement("span");
    const picture = {file, row, name, save, state, results: new Map(), progress: "", url: URL.createObjectURL(file)};
    name.textContent = file.name;
    name.onclick = () => show(picture);
    save.textContent = "Download";
    save.ariaLabel = `Download ${file.name}`;
    save.onclick = () => download(picture, find("right").value, find("format").value);
    row.append(name, save, state);
    find("pictures").append(row);
    pictures.push(picture);
    const preview = new Image();  // the source, enlarged by the browser until there are results
    preview.onload = preview.onerror = () => {
      [picture.width, picture.height] = [preview.naturalWidth, preview.naturalHeight];  // 0 for formats it cannot read
      picture.refusal = refusal(picture);
      picture.ready = !picture.refusal;
      if (picture === shown) fit();
      refresh();
    };
    preview.src = picture.url;
  }
  if (pictures.length > first) show(pictures[first]);
}

function saveAs(address, name) {
  const link = document.createElement("a");
  [link.href, link.download] = [address, name];
  link.click();
}

async function download(picture, model, format) {
  picture.state.textContent = `writing ${format}`;
  const answer = await fetch(`results/${result(picture, model).id}.${format}`).catch(error => error);
  update();
  if (answer.status === 404) {  // the server has deleted it; it is made again
    picture.results.delete(query(picture, model));
    return work();
  }
  if (!answer.ok) picture.state.textContent = answer.text ? await answer.text() : "the server does not answer";
  else saveAs(URL.createObjectURL(await answer.blob()), `${picture.file.name.replace(/\.[^.]*$/, "")}_${model}_x4.${format}`);
}

function show(picture) {
  for (const [address, made] of picture.results) if (made.error) picture.results.delete(address);  // try again
  shown = picture;
  find("view").scrollIntoView({block: "nearest"});
  fit();
  refresh();
}

function update() {
  const right = find("right").value, done = pictures.filter(picture => result(picture, right)?.id);
  for (const picture of pictures) {
    const made = result(picture, right), error = picture.refusal || made?.error;
    const facts = made ? [made.result, made.note].filter(Boolean).join("; ") : picture.progress || "waiting";
    picture.state.textContent = error || facts;
    picture.state.classList.toggle("failed", Boolean(error));
    picture.name.ariaCurrent = picture === shown;
    picture.save.disabled = !made?.id;
  }
  find("all").hidden = done.length < 2;
  find("all").onclick = () => {
    const words = done.map(picture => `&id=${result(picture, right).id}`).join("");
    saveAs(`results.zip?format=${find("format").value}${words}`, "upscaled.zip");
  };
  if (shown) updateView();
}

function updateView() {
  const sides = {left: find("left").value, right: find("right").value};
  const made = Object.values(sides).map(model => result(shown, model)), any = made.find(each => each?.id);
  const error = shown.refusal || made.find(each => each?.error)?.error;
  for (const [side, model] of Object.entries(sides)) {
    const own = result(shown, model), image = find(`${side}-picture`);
    const id = own?.id || any?.id, address = id ? `views/${id}` : shown.width ? shown.url : "";
    if (image.getAttribute("src") !== address) image.src = address;
    image.hidden = !address;
    find(`${side}-label`).textContent = own?.id ? model : error ? `no ${model}` : `${model}: ${shown.progress || "waiting"}`;
  }
  find("divider").hidden = find("right-picture").hidden;
  find("alert").textContent = error ? `${shown.file.name}: ${error}` : "";
  find("sizes").textContent = made.every(each => each?.id) ?
    `${sides.left} | ${sides.right}: ${shown.file.name}, ${made[1].source} -> ${made[1].result}` : "";
  const before = size().join("x");
  shown.size ||= any?.result;
  if (before !== size().join("x")) fit();
}

// The view: `zoom` is CSS pixels per pixel of the result, x and y its corner

let split = 50, zoom = 1, x = 0, y = 0, fitted = true;
const box = () => find("view").getBoundingClientRect();
const size = () => shown?.size ? shown.size.split("x").map(Number) : [4 * (shown?.width || 1), 4 * (shown?.height || 1)];
const smallest = () => Math.min(box().width / size()[0], box().height / size()[1]);

function draw() {
  const [width, height] = size(), {width: across, height: down} = box();
  const inside = (start, length, room) => length < room ? (room - length) / 2 : Math.min(0, Math.max(room - length, start));
  [x, y] = [inside(x, width * zoom, across), inside(y, height * zoom, down)];
  for (const side of ["left", "right"]) {
    const transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    const rendering = zoom * devicePixelRatio >= 2.5 ? "pixelated" : "auto";
    Object.assign(find(`${side}-picture`).style, {width: `${width}px`, height: `${height}px`, transform, imageRendering: rendering});
  }
  find("over").style.clipPath = `inset(0 ${100 - split}% 0 0)`;
  find("divider").style.left = `${split}%`;
  find("divider").ariaValueNow = Math.round(split);
}

function zoomTo(wanted, atX = box().width / 2, atY = box().height / 2) {
  const before = zoom, low = Math.min(smallest(), 1 / devicePixelRatio);
  zoom = Math.min(16, Math.max(low, wanted));
  [x, y] = [atX - (atX - x) * zoom / before, atY - (atY - y) * zoom / before];
  fitted = zoom === smallest();
  draw();
}

function fit() {
  zoomTo(smallest());
}

function divide(percent) {
  split = Math.min(100, Math.max(0, percent));
  draw();
}

const pointers = new Map();  // one moves the picture or the divider, two zoom, even if one is on the divider

find("view").onpointerdown = event => {
  event.target.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
};
find("view").onpointermove = event => {
  if (!pointers.has(event.pointerId)) return;
  const middle = index => [...pointers.values()].reduce((sum, at) => sum + at[index], 0) / pointers.size;
  const spread = () => pointers.size < 2 ? 1 : Math.hypot(...[0, 1].map(i => [...pointers.values()][0][i] - [...pointers.values()][1][i]));
  const before = [middle(0), middle(1), spread()];
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (event.target === find("divider") && pointers.size < 2) return divide(100 * (event.clientX - box().left) / box().width);
  x += middle(0) - before[0];
  y += middle(1) - before[1];
  zoomTo(zoom * spread() / before[2], middle(0) - box().left, middle(1) - box().top);
};
find("view").onpointerup = find("view").onpointercancel = event => pointers.delete(event.pointerId);
find("view").addEventListener("wheel", event => {
  event.preventDefault();
  zoomTo(zoom * Math.exp(-event.deltaY / 500), event.clientX - box().left, event.clientY - box().top);
}, {passive: false});

const KEYS = {
  "+": () => zoomTo(zoom * 1.25), "=": () => zoomTo(zoom * 1.25), "-": () => zoomTo(zoom / 1.25), "0": fit,
  ArrowLeft: () => divide(split - 2), ArrowRight: () => divide(split + 2),
};
const MOVES = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
  const move = event.shiftKey && MOVES[event.key];
  if (!move && !KEYS[event.key]) return;
  event.preventDefault();
  if (!move) return KEYS[event.key]();
  x += move[0];
  y += move[1];
  draw();
});

// The controls

find("zooms").onclick = ({target: {dataset}}) => dataset.zoom && zoomTo(Number(dataset.zoom) / devicePixelRatio || smallest());
find("photo").onchange = event => { add(event.target.files); event.target.value = ""; };  // so that it can be chosen again
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", event => { event.preventDefault(); add(event.dataTransfer.files); });
document.addEventListener("paste", event => add(event.clipboardData.files));
addEventListener("resize", () => fitted ? fit() : draw());
addEventListener("pagehide", event => {
  const ids = pictures.flatMap(picture => [...picture.results.values()].map(made => made.id || ""));
  if (!event.persisted) navigator.sendBeacon("forget", ids.join(" "));
});
// The server deletes old results when room is short; they are made again.
for (const side of ["left", "right"]) {
  find(`${side}-picture`).onerror = event => {
    const lost = event.target.src.match(/views\/(.*)$/)?.[1];
    for (const [address, made] of shown.results) if (lost && made.id === lost) shown.results.delete(address);
    if (lost) work();
  };
}

function select(name, values, value) {
  for (const each of values) find(name).add(new Option(each, each, each === value, each === value));
  find(name).onchange = refresh;
}

function chosen({value}) {
  return value < 0 ? "auto" : Number(value).toFixed(1);
}

function slider(name, {hint, default: value}) {
  const label = document.createElement("label"), input = document.createElement("input");
  const auto = value === "auto";  // then it is the place left of 0
  Object.assign(input, {id: name, type: "range", min: auto ? -0.1 : 0, max: 1, step: 0.1, value: auto ? -0.1 : value});
  const text = () => { label.firstChild.textContent = `${name} ${chosen(input)}: ${hint}`; };
  label.append("", input);
  text();
  input.oninput = text;
  input.onchange = refresh;
  find("sliders").append(label);
}

async function example(number) {
  const answer = await fetch(`examples/${number}`);
  return new File([await answer.blob()], `example_${number + 1}.png`);
}

async function start() {
  limits = await (await fetch("settings")).json();
  find("limits").textContent = `${limits.megapixels} megapixels and ${limits.megabytes} MB`;
  Object.entries(limits.sliders).forEach(([name, description]) => slider(name, description));
  select("left", limits.models, limits.models[0]);
  select("right", limits.models, limits.models.at(-1));
  select("format", limits.formats, limits.formats[0]);
  for (let number = 0; number < limits.examples; number++) {
    const button = document.createElement("button"), image = document.createElement("img");
    image.src = `examples/${number}`;
    image.alt = `Example ${number + 1}`;
    button.append(image);
    button.onclick = async () => add([await example(number)]);
    find("examples").append(button);
  }
  if (limits.examples) add([await example(0)]);
}

start();
