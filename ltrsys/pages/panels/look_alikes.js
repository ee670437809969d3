"use strict";
ltrsys.panel("look_alikes", (body, data, run) => {
  const { element, choice, counted, pictures } = ltrsys;
  const FIRST = 12;
  const classifiers = run.classifiers.filter((classifier) => classifier.name in data.pairs);
  const holder = element("div");
  body.append(element("div", { class: "toolbar" },
    choice("Classifier", classifiers.map((one) => one.label), 0, (place) => show(place, FIRST))), holder);
  show(0, FIRST);

  function show(place, most) {
    const pairs = data.pairs[classifiers[place].name];
    if (pairs.length === 0) {
      holder.replaceChildren(element("p", { class: "note" }, "No image is taken for another class."));
      return;
    }
    const list = element("ol", { class: "pairs" }, ...pairs.slice(0, most).map(card));
    const more = pairs.length > most
      ? element("button", { type: "button", class: "more", onclick: () => show(place, pairs.length) },
        `Show all ${pairs.length} pairs`)
      : null;
    holder.replaceChildren(...[list, more].filter(Boolean));
  }

  function card({ classes, confused, pictures: places }) {
    const total = confused[0] + confused[1];
    return element("li", { class: "pair" },
      element("p", {}, element("strong", {}, counted(total)), total === 1 ? " image confused" : " images confused"),
      element("div", {}, ...[0, 1].map((side) => picture(classes[side], confused[side], places[side]))));
  }

  function picture(place, confused, source) {
    const name = run.names[place];
    return element("figure", {},
      source === null
        ? element("div", { class: "no-picture" }, "no picture")
        : element("img", { src: pictures[source], alt: `An image of ${name}`, loading: "lazy", decoding: "async" }),
      element("figcaption", {}, name,
        element("small", {}, `${counted(confused)} of ${counted(run.images[place])} taken for the other`)));
  }
});
