// Shows what the server says comes next, at one picture pixel per device pixel, and sends the answer.
// Nothing is kept here: after a refresh, or in another browser, the server says where to continue.
"use strict";

const KINDS = {
  rating: {
    question: "How good is this picture?",
    answers: ["1 bad", "2 poor", "3 fair", "4 good", "5 excellent"],
    keys: {},
    captions: [""],
    begin: "You will see one picture after another. Say how good each of them is, from 1 (bad) to 5 (excellent), " +
      "with the keys 1 to 5 or the buttons. Judge by your first impression; there is no wrong answer.",
    example: answer => `An example: a picture like this is ${answer == 1 ? "1 (bad)" : "5 (excellent)"}. ` +
      `Press ${answer}.`,
  },
  pairs: {
    question: "Which is closer to the original in the middle?",
    answers: ["1 left", "2 no difference", "3 right"],
    keys: {ArrowLeft: 1, ArrowDown: 2, ArrowRight: 3},
    captions: ["left", "original", "right"],
    begin: "You will see an original picture between two versions of it. Say which of the two is closer to the " +
      "original, with the keys 1 (left), 2 (no difference) and 3 (right), the arrows or the buttons.",
    example: answer => `An example: the picture on the ${answer == 1 ? "left" : "right"} is the original itself. ` +
      `Press ${answer}.`,
  },
};
const CARDS = {
  "begin": ["Picture quality", kind => kind.begin + "\n\nFirst come a few examples with their answers. Please set " +
    "the browser to full screen, sit as you usually do, and do not zoom.", "Begin"],
  "examples over": ["The examples are over", () => "Now it is your opinion that counts.", "Go on"],
  "pause": ["Time for a break", () => "Look out of the window for a minute. You may also close this page: the same " +
    "address goes on here, on another day or in another browser too.", "Go on"],
  "end": ["Done. Thank you!", () => "Your answers are stored. You may close this page.", ""],
};
const BLANK = 300; // milliseconds of grey between pictures, so that each is judged by itself
const RETRY = 2000; // milliseconds
const here = location.pathname.replace(/\/$/, "");
const find = selector => document.querySelector(selector);
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
let state, frames = [], shownAt = null, ahead = [], dismissed = null;

function trouble(line) {
  find("#trouble").hidden = !line;
  find("#trouble").textContent = line;
}

/** Return the reply's JSON, asking again until the server answers; null if it refuses. */
async function ask(path, options) {
  for (;;) {
    try {
      const reply = await fetch(here + path, options);
      if (reply.ok) { trouble(""); return await reply.json(); }
      const line = await reply.text();
      trouble(line);
      if (reply.status < 500) return null;
    } catch {
      trouble("The server does not answer. Nothing is lost: this page goes on by itself when it does.");
    }
    await wait(RETRY);
  }
}

/** Return the loaded pictures of a step. */
async function load(step) {
  const count = KINDS[state.kind].captions.length;
  const images = Array.from({length: count}, (_, place) => {
    const image = new Image();
    image.src = `${here}/picture/${step}/${place}`;
    return image;
  });
  await Promise.all(images.map(image => image.decode()));
  return images;
}

async function loaded(step) {
  for (;;) {
    try {
      return await load(step);
    } catch {
      trouble("The picture could not be loaded; it is tried again.");
      await wait(RETRY);
    }
  }
}

/** Return a canvas that shows the middle of the picture, pixel for pixel.
 *
 * An <img> of size / devicePixelRatio would be resampled if that is no multiple of 1/64, as with a ratio of 1.5.
 */
function canvasOf(image) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "a picture to judge");
  const watcher = new ResizeObserver(([{contentRect, devicePixelContentBoxSize}]) => {
    const exact = devicePixelContentBoxSize?.[0];
    canvas.width = exact ? exact.inlineSize : Math.round(contentRect.width * devicePixelRatio);
    canvas.height = exact ? exact.blockSize : Math.round(contentRect.height * devicePixelRatio);
    const [left, top] = [canvas.width - image.naturalWidth, canvas.height - image.naturalHeight];
    canvas.getContext("2d").drawImage(image, Math.round(left / 2), Math.round(top / 2));
  });
  try {
    watcher.observe(canvas, {box: "device-pixel-content-box"});
  } catch { // Safari does not support that box, but its ratios are whole numbers
    watcher.observe(canvas);
  }
  return canvas;
}

function clear() {
  shownAt = null;
  frames.forEach(frame => frame.remove());
  frames = [];
  find("#card").hidden = true;
  document.querySelectorAll("#answers button").forEach(button => { button.disabled = true; });
}

function progress() {
  const examples = state.step < state.examples;
  const [done, of] = examples ? [state.step, state.examples] :
    [state.step - state.examples, state.steps - state.examples];
  find("progress").value = done / of;
  find("#progress span").textContent = `${examples ? "example " : ""}${Math.min(done + 1, of)} of ${of}`;
}

function showCard() {
  const [title, text, button] = CARDS[state.card];
  find("#card h1").textContent = title;
  find("#card p").textContent = text(KINDS[state.kind]);
  find("#card button").textContent = `${button} (space)`;
  find("#card button").hidden = !button;
  find("#card").hidden = false;
  find("footer").style.visibility = "hidden";
}

async function show() {
  clear();
  progress();
  if (state.card && dismissed !== state.step) return showCard();
  const kind = KINDS[state.kind], step = state.step;
  find("footer").style.visibility = "visible";
  find("#question").textContent = state.answer ? kind.example(state.answer) : kind.question;
  const [images] = await Promise.all([ahead[step] || loaded(step), wait(BLANK)]);
  trouble("");
  ahead = [];
  frames = images.map((image, number) => {
    const frame = document.createElement("figure"), caption = document.createElement("figcaption");
    frame.className = "frame";
    caption.textContent = kind.captions[number];
    frame.append(canvasOf(image), caption);
    find("#stage").append(frame);
    return frame;
  });
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame); // until it is on the screen
  document.querySelectorAll("#answers button").forEach((button, number) => {
    button.disabled = Boolean(state.answer) && state.answer !== number + 1;
    button.classList.toggle("expected", state.answer === number + 1);
  });
  shownAt = performance.now();
  if (step + 1 < state.steps) ahead[step + 1] = loaded(step + 1); // while this one is looked at
}

async function answer(value) {
  if (shownAt === null || (state.answer && value !== state.answer)) return;
  const ratio = devicePixelRatio, {width, height} = frames[0].querySelector("canvas");
  const sent = {
    step: state.step, value, seconds: (performance.now() - shownAt) / 1000, pixel_ratio: ratio,
    screen: [Math.round(screen.width * ratio), Math.round(screen.height * ratio)],
    room: [width, height], // device pixels available to a picture
  };
  clear();
  const options = {method: "POST", body: JSON.stringify(sent), headers: {"Content-Type": "application/json"}};
  // If it is refused because another window was faster, the server says where to continue.
  state = await ask("/answer", options) || await ask("/state");
  if (state) show();
}

function dismiss() {
  if (find("#card").hidden || find("#card button").hidden) return;
  dismissed = state.step;
  show();
}

document.addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return; // a key held down counts once
  if (event.key === " " || event.key === "Enter") {
    if (!find("#card").hidden) { event.preventDefault(); dismiss(); }
    return;
  }
  const kind = state && KINDS[state.kind], value = kind && (kind.keys[event.key] || Number(event.key));
  if (value >= 1 && value <= kind.answers.length && Number.isInteger(value)) {
    event.preventDefault();
    answer(value);
  }
});
find("#card button").addEventListener("click", dismiss);

(async () => {
  state = await ask("/state");
  if (!state) return;
  KINDS[state.kind].answers.forEach((text, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => { button.blur(); answer(number + 1); });
    find("#answers").append(button);
  });
  show();
})();
