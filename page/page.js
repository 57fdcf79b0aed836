"use strict";
const find = name => document.getElementById(name);
const chosen = group => document.querySelector(`#${group} input:checked`).value;
const pictures = [];
let limits, shown = null, last = Promise.resolve();  // one request at a time, since others share the server's places
let split = 50, zoom = 1, x = 0, y = 0;

async function ask(picture, model, format) {
  const job = Math.random().toString(36).slice(2);
  const timer = setInterval(async () => {
    const answer = await fetch(`progress/${job}`).catch(() => null);
    if (!answer || !answer.ok) return;
    const {before, done, total} = await answer.json();
    picture.state.textContent = before ? `${before} before it` : total ? `${done} of ${total} tiles` : "";
  }, 500);
  try {
    const answer = await fetch(`upscale?model=${model}&format=${format}&job=${job}`, {method: "PUT", body: picture.file});
    if (!answer.ok) throw Error((await answer.text()).trim());
    const header = name => answer.headers.get(name);
    const facts = {source: header("X-Source"), result: header("X-Result"), note: header("X-Note")};
    return {url: URL.createObjectURL(await answer.blob()), ...facts};
  } finally {
    clearInterval(timer);
  }
}

function result(picture, model, format) {  // requested once, or again after a failure
  const key = `${model} ${format}`;
  if (!picture.results.has(key)) {
    const answer = last.then(() => ask(picture, model, format));
    last = answer.catch(() => picture.results.delete(key));
    picture.results.set(key, answer);
  }
  return picture.results.get(key);
}

function tell(picture, text, failed) {
  picture.state.textContent = text;
  picture.state.classList.toggle("failed", failed);
  if (picture === shown) find("alert").textContent = failed ? `${picture.file.name}: ${text}` : "";
}

async function make(picture, format = chosen("format")) {
  try {
    if (picture.file.size > limits.megabytes * 2 ** 20) throw Error(`larger than ${limits.megabytes} MB, which is the limit`);
    tell(picture, "waiting", false);
    const made = await result(picture, chosen("right"), format);
    tell(picture, made.note || made.result, false);
    return made;
  } catch (error) {
    tell(picture, error.message, true);
    return null;
  }
}

async function download(picture) {
  const format = chosen("format"), model = chosen("right"), made = await make(picture, format);
  if (!made) return;
  const link = document.createElement("a");
  link.href = made.url;
  link.download = `${picture.file.name.replace(/\.[^.]*$/, "")}_${model}_x4.${format}`;
  link.click();
}

async function show(picture) {
  shown = picture;
  const left = chosen("left"), right = chosen("right"), format = chosen("format");
  const made = await make(picture, format === "tif" ? "png" : format);  // browsers show no TIFF
  const other = made && await result(picture, left, "png").catch(error => tell(picture, error.message, true));
  if (picture !== shown || left !== chosen("left") || right !== chosen("right")) return;
  find("view").hidden = !other;
  find("sizes").textContent = other ? `${left} | ${right}: ${picture.file.name}, ${made.source} -> ${made.result}` : "";
  if (!other) return;
  find("left-picture").src = other.url;
  find("right-picture").src = made.url;
}

function add(files) {
  const first = pictures.length;
  for (const file of files) {
    const row = document.createElement("li"), name = document.createElement("button");
    const save = document.createElement("button"), state = document.createElement("span");
    const picture = {file, state, results: new Map()};
    name.textContent = file.name;
    name.onclick = () => show(picture);
    save.textContent = "Download";
    save.onclick = () => download(picture);
    row.append(name, save, state);
    find("pictures").append(row);
    pictures.push(picture);
  }
  if (pictures.length > first) show(pictures[first]);
  pictures.slice(first + 1).forEach(picture => make(picture));
}

function draw() {
  find("over").style.clipPath = `inset(0 ${100 - split}% 0 0)`;
  for (const side of ["left", "right"]) find(`${side}-picture`).style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
}

find("split").oninput = event => { split = Number(event.target.value); draw(); };
find("view").addEventListener("wheel", event => {
  event.preventDefault();
  const box = find("view").getBoundingClientRect(), before = zoom;
  zoom = Math.min(16, Math.max(1, zoom * Math.exp(-event.deltaY / 500)));
  x = zoom === 1 ? 0 : event.clientX - box.left - (event.clientX - box.left - x) * zoom / before;
  y = zoom === 1 ? 0 : event.clientY - box.top - (event.clientY - box.top - y) * zoom / before;
  draw();
}, {passive: false});
find("view").onpointerdown = event => find("view").setPointerCapture(event.pointerId);
find("view").onpointermove = event => {
  if (!event.buttons) return;
  x += event.movementX;
  y += event.movementY;
  draw();
};
find("photo").onchange = event => { add(event.target.files); event.target.value = ""; };  // so that it can be chosen again
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", event => { event.preventDefault(); add(event.dataTransfer.files); });
document.addEventListener("paste", event => add(event.clipboardData.files));

function radios(group, values, value) {
  for (const each of values) {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, {type: "radio", name: group, value: each, checked: each === value});
    input.onchange = () => shown && show(shown);
    label.append(input, each);
    find(group).append(label);
  }
}

async function example(number) {
  const answer = await fetch(`examples/${number}`);
  return new File([await answer.blob()], `example_${number + 1}.png`);
}

async function start() {
  limits = await (await fetch("settings")).json();
  find("limits").textContent = `${limits.megapixels} megapixels and ${limits.megabytes} MB`;
  radios("left", limits.models, limits.models[0]);
  radios("right", limits.models, limits.models.at(-1));
  radios("format", limits.formats, limits.formats[0]);
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
