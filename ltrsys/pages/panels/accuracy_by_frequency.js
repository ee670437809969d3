"use strict";
ltrsys.panel("accuracy_by_frequency", (body, _, run) => {
  const { element, choice, charts, colours, percent } = ltrsys;
  const shown = new Set(run.classifiers.keys());
  let dotted = ltrsys.bestOf(run, run.classifiers.keys());
  const lines = element("fieldset", {}, element("legend", {}, "Lines"));
  const swatches = run.classifiers.map((classifier, place) => {
    const swatch = element("span", { class: "swatch" });
    const box = element("input", { type: "checkbox", checked: true, onchange: () => {
      if (box.checked) shown.add(place); else shown.delete(place);
      redraw();
    } });
    lines.append(element("label", {}, box, swatch, classifier.label));
    return swatch;
  });
  const labels = run.classifiers.map((one) => one.label);
  body.append(element("div", { class: "toolbar" },
    choice("Points", labels, dotted, (place) => { dotted = place; redraw(); }), lines));

  const redraw = charts.add(body, `Accuracy of each class against its number of training images, for ${labels.join(", ")}.` +
    " The table of classes below has the same numbers.", () => {
    const made = charts.figure({
      x: "training images of the class", y: "test images recognised, in per cent", xType: "log", yRange: [-6, 106],
      height: 420,
    });
    charts.markShots(made, run);
    const { accuracy, color } = run.classifiers[dotted];
    const places = Array.from(run.names.keys()).filter((place) => run.images[place] > 0);
    const points = made.scatter({ field: "x" }, { field: "y" }, {
      source: new Bokeh.ColumnDataSource({ data: {
        x: places.map((place) => charts.frequency(run.trainImages[place], place)),
        y: places.map((place) => charts.apart(accuracy[place], run.images[place], place, 1)),
        name: places.map((place) => run.names[place]),
        train: places.map((place) => run.trainImages[place]),
        percent: places.map((place) => percent(accuracy[place])),
        images: places.map((place) => run.images[place]),
      } }),
      size: places.length > 1000 ? 4 : 7, marker: "circle", fill_color: colours.readable(color), line_color: null,
      fill_alpha: places.length > 1000 ? 0.35 : 0.5,
    });
    run.classifiers.forEach((classifier, place) => {
      const colour = colours.readable(classifier.color);
      swatches[place].style.borderColor = colour;
      if (!shown.has(place)) return;
      const means = charts.runningMean(run.trainImages, classifier.accuracy);
      made.line(means.x, means.y, { line_color: colours.named("--surface"), line_width: 6, line_alpha: 0.8 });
      made.line(means.x, means.y, { line_color: colour, line_width: 3 });
      made.scatter(means.x, means.y, { marker: charts.marker(classifier), size: 9, fill_color: colour,
        line_color: colours.named("--surface") });
    });
    charts.hover(made, [points], [
      ["class", "@name"], ["training images", "@train"], ["recognised", "@percent % of @images"],
    ]);
    return made;
  }, "27rem");
  body.append(element("p", { class: "caption" }, `Dashed lines: few-shot classes have fewer than ${run.few} training ` +
    `images, many-shot classes more than ${run.many}. Points are moved a little, so that none hides another.`));
});
