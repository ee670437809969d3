"use strict";
/* What every panel uses: the values of the page, elements made of text alone, and the run that is shown. */
const ltrsys = (() => {
  const { page, pictures } = JSON.parse(document.getElementById("page-data").textContent);
  const VIEWS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
  const SHOTS = ["many", "medium", "few"];
  const draw = new Map(); // what each panel is drawn by, by its name
  const opened = []; // runs with their arrays

  /** Return the array that was packed, as one of the browser's typed arrays. */
  function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (character) => character.charCodeAt(0));
    return new VIEWS[packed.kind](bytes.buffer);
  }

  /** Make an element. Children are elements or texts; no text is ever taken for HTML. */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === false || value === null || value === undefined) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  /** Make a labelled choice; `changed` gets the place of what is chosen. */
  function choice(label, options, chosen, changed) {
    const select = element("select", { onchange: () => changed(Number(select.value)) });
    options.forEach((option, place) => select.append(element("option", { value: place }, option)));
    select.value = String(chosen);
    return element("label", {}, label, select);
  }

  /** Return a run with its arrays, unpacked once. */
  function openRun(place) {
    if (opened[place] === undefined) {
      const run = page.runs[place];
      const classes = page.classes[run.classes];
      const lineageOfClass = unpack(classes.lineage_of_class);
      const images = unpack(run.images);
      opened[place] = {
        ...run,
        names: classes.names,
        lineages: Array.from(lineageOfClass, (lineage) => classes.lineages[lineage]),
        shots: Array.from(unpack(run.shots), (shot) => SHOTS[shot]),
        trainImages: unpack(run.train_images),
        images,
        classifiers: run.classifiers.map((classifier) => {
          const correct = unpack(classifier.correct);
          return { ...classifier, correct, accuracy: accuracyOf(correct, images) };
        }),
      };
    }
    return opened[place];
  }

  /** Return the accuracy of each class in per cent; NaN for a class without an image. */
  function accuracyOf(correct, images) {
    return Float64Array.from(correct, (right, place) => (images[place] ? (100 * right) / images[place] : NaN));
  }

  /** Return the place of the classifier with the best mean over the classes, of those at some places. */
  function bestOf(run, places) {
    const mean = (place) => {
      const some = run.classifiers[place].accuracy.filter((value) => !Number.isNaN(value));
      return some.reduce((sum, value) => sum + value, 0) / Math.max(1, some.length);
    };
    return Array.from(places).reduce((best, place) => (mean(place) > mean(best) ? place : best));
  }

  /** Return a number of images, or the like, as people write it. */
  const counted = (number) => number.toLocaleString("en");

  /** Return an accuracy, with a dash where there is none. */
  const percent = (value) => (value === null || Number.isNaN(value) ? "–" : value.toFixed(1));

  /** Say how a panel is drawn: `(body, data, run) => { ... }`. */
  function panel(name, how) {
    draw.set(name, how);
  }

  /** Draw all panels for a run. */
  function showRun(place) {
    const run = openRun(place);
    for (const { name, missing } of page.panels) {
      const body = document.querySelector(`[data-panel="${name}"]`);
      body.replaceChildren();
      const data = run.panels[name];
      if (data === null) body.append(element("p", { class: "note" }, missing));
      else draw.get(name)(body, data, run);
    }
  }

  return { page, pictures, SHOTS, unpack, element, choice, accuracyOf, bestOf, counted, percent, panel, showRun };
})();
