// Sends each photograph on its own and shows what comes back. Names are other people's texts: they only ever become
// text nodes.
"use strict";

const TOP = 5;
const SIMILAR = 4;
const AT_ONCE = 3; // photographs under way: the server makes batches of those of all pages
const TRIES = 30; // while the server says that too much waits already
const SMALL = 64; // pixels: a picture this small is enlarged without blur

const UNLIKELY = 0.01; // below this no training images are shown

const GROUPS = { many: "many", medium: "a fair number", few: "few, so look twice" };

const element = (id) => document.getElementById(id);
const waiting = [];
let running = 0;
let total = 0;
let finished = 0;
let failed = 0;
let mostBytes = Infinity;

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function percent(probability) {
  if (probability > 0.995) return "over 99 %";
  if (probability < 0.01) return "under 1 %";
  return `${Math.round(100 * probability)} %`;
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
}

// ---- what is shown of a photograph

function newImage(source, description) {
  const image = make("img");
  image.alt = description;
  image.loading = "lazy";
  image.decoding = "async";
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= SMALL));
  image.addEventListener("error", () => image.remove()); // a format that this browser does not show, or none
  image.src = source;
  return image;
}

function newCard(file) {
  const card = make("li", "card");
  const photo = make("figure", "photo");
  const image = newImage(URL.createObjectURL(file), "");
  photo.append(image, make("figcaption", "", file.name));
  const said = make("div");
  said.append(make("p", "quiet", "Waiting …"));
  card.append(photo, said);
  return { card, said };
}

function tell(said, text, className = "quiet") {
  said.replaceChildren(make("p", className, text));
}

function showUploading(said, share) {
  if (share >= 1) return tell(said, "Looking …");
  const bar = make("progress");
  bar.value = share;
  bar.setAttribute("aria-label", "Sent");
  said.replaceChildren(make("p", "quiet", "Sending …"), bar);
}

function showPrediction(said, prediction) {
  if (prediction.status === "unreadable") return tell(said, sentence(prediction.problem), "bad");
  const answers = make("ol", "answers");
  prediction.answers.forEach((answer, place) => answers.append(newAnswer(answer, place === 0)));
  said.replaceChildren(answers);
  if (prediction.status === "not sure") {
    said.prepend(make("p", "caution", "The model is not sure. Take these names as suggestions, and look for yourself."));
  }
}

function newAnswer(answer, isBest) {
  const item = make("li", "answer");
  const heading = make(isBest ? "h2" : "h3");
  heading.append(make("span", "name", answer.name), make("span", "share", percent(answer.probability)));
  const bar = make("div", "bar");
  const filled = make("span");
  filled.style.width = `${100 * answer.probability}%`;
  bar.append(filled);
  const known = make("p", `known ${answer.shot}`);
  const images = answer.train_images === 1 ? "1 image" : `${answer.train_images.toLocaleString("en")} images`;
  known.append(`Learned from ${images}: `, make("strong", "", GROUPS[answer.shot]));
  const groups = Object.values(answer.taxonomy).filter((group) => group !== answer.name);
  if (groups.length) known.append(make("br"), groups.join(" › "));
  item.append(heading, bar, known);
  const shown = answer.similar.filter((one) => one.thumbnail !== null);
  if (shown.length && (isBest || answer.probability >= UNLIKELY)) item.append(newSimilar(answer, shown, isBest));
  return item;
}

function newSimilar(answer, shown, isBest) {
  const row = make("div", "similar");
  if (isBest) row.append(make("p", "", "The training images of this name that the model finds most like yours:"));
  for (const one of shown) row.append(newImage(one.thumbnail, `Training image of ${answer.name}`));
  return row;
}

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

function showProgress() {
  element("progress").hidden = total === 0;
  element("done").hidden = finished === total;
  element("done").max = total;
  element("done").value = finished;
  const wrong = failed ? `, ${failed} could not be named` : "";
  element("said").textContent = `${finished} of ${total} ${total === 1 ? "photograph" : "photographs"} done${wrong}.`;
}

// ---- sending

function add(files) {
  const cards = [];
  for (const file of files) {
    const { card, said } = newCard(file);
    cards.push(card);
    total += 1;
    if (file.size > mostBytes) {
      end(said, `This file has ${megabytes(file.size)}; the server takes at most ${megabytes(mostBytes)}.`);
    } else {
      waiting.push({ file, said, tries: 0 });
    }
  }
  element("results").prepend(...cards);
  showProgress();
  next();
}

function end(said, problem) {
  if (problem) {
    failed += 1;
    tell(said, problem, "bad");
  }
  finished += 1;
  showProgress();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    send(waiting.shift());
  }
}

function send(job) {
  const request = new XMLHttpRequest(); // fetch does not tell how much is sent
  const query = new URLSearchParams({ top: TOP, similar: SIMILAR });
  if (element("classifier").value) query.set("classifier", element("classifier").value);
  const form = new FormData();
  form.append("files", job.file, job.file.name);
  request.open("POST", `predict?${query}`);
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) showUploading(job.said, event.loaded / event.total);
  });
  request.addEventListener("load", () => {
    if (request.status === 503 && job.tries < TRIES) {
      job.tries += 1;
      tell(job.said, "The server is busy; trying again …");
      const seconds = Number(request.getResponseHeader("Retry-After")) || 1;
      setTimeout(() => send(job), 1000 * seconds);
      return;
    }
    if (request.status === 200 && request.response) {
      showPrediction(job.said, request.response.predictions[0]);
      end(job.said, null);
    } else {
      end(job.said, sentence(request.response?.detail ?? `The server answered ${request.status}`));
    }
    running -= 1;
    next();
  });
  request.addEventListener("error", () => {
    end(job.said, "The server cannot be reached, or has refused this file. Is it still running?");
    running -= 1;
    next();
  });
  request.send(form);
}

// ---- what people do

function listen() {
  const drop = element("drop");
  const files = element("files");
  drop.addEventListener("submit", (event) => event.preventDefault());
  files.addEventListener("change", () => {
    add(files.files);
    files.value = ""; // the same file may be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
}

async function introduce() {
  const here = new URL("health", location.origin + location.pathname); // fetch takes no address with a password in it
  const health = await (await fetch(here)).json();
  mostBytes = health.max_bytes - 4096; // a form is a little larger than its file
  element("model").textContent = `${health.model} knows ${health.classes.toLocaleString("en")} names.`;
  const choice = element("classifier");
  for (const name of health.classifiers) choice.append(make("option", "", name));
  element("choice").hidden = health.classifiers.length < 2;
}

listen();
introduce();
