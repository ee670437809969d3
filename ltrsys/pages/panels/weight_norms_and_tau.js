"use strict";
ltrsys.panel("weight_norms_and_tau", (body, data, run) => {
  const { element, unpack, accuracyOf, charts, colours, percent } = ltrsys;
  const { curve, chosen } = data.tau;
  const taus = curve.tau;
  const numClasses = run.names.length;
  const correct = unpack(data.tau.correct);
  const norms = Object.fromEntries(Object.entries(data.norms).map(([name, packed]) => [name, unpack(packed)]));
  const joint = norms.joint;
  let place = Math.max(0, chosen === null ? 0 : taus.indexOf(nearest(chosen)));

  const said = element("output", { for: "tau" });
  const slider = element("input", { type: "range", id: "tau", min: "0", max: String(taus.length - 1), step: "1",
    value: String(place), oninput: () => { place = Number(slider.value); tell(); update(); } });
  const tiles = element("dl", { class: "tiles" });
  const columns = [["many", "many-shot"], ["medium", "medium-shot"], ["few", "few-shot"], ["all", "all images"],
    ["mean_class_accuracy", "mean over classes"]];
  body.append(element("div", { class: "toolbar" }, element("label", { class: "grow" }, "τ", slider), said), tiles);
  const drawings = element("div", { class: "charts" });
  body.append(drawings);

  function nearest(tau) {
    return taus.reduce((found, one) => (Math.abs(one - tau) < Math.abs(found - tau) ? one : found), taus[0]);
  }

  function tell() {
    const note = chosen !== null && nearest(chosen) === taus[place] ? `, nearest to the chosen ${Number(chosen.toPrecision(4))}` : "";
    said.textContent = `${taus[place]}`;
    slider.setAttribute("aria-valuetext", `τ = ${taus[place]}${note}`);
    const zero = taus.indexOf(nearest(0));
    tiles.replaceChildren(...columns.map(([column, title]) => {
      const [now, before] = [curve[column][place], curve[column][zero]];
      const change = now === null || before === null ? null : now - before;
      const sign = change === null ? "" : `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(1)} against τ = ${taus[zero]}`;
      return element("div", {}, element("dt", {}, title), element("dd", {}, percent(now), element("small", {}, sign)));
    }));
  }

  const shotColour = () => run.shots.map((shot) => colours.named(`--${shot}`));
  const frequencies = Array.from(run.trainImages, charts.frequency);
  const lengths = () => Array.from(joint ?? [], (norm) => norm ** (1 - taus[place]));
  const accuracies = () => accuracyOf(correct.subarray(place * numClasses, (place + 1) * numClasses), run.images);
  let live = {};

  if (joint !== undefined) {
    charts.add(drawings, "Length of the weight vector of each class, after division, against its number of training images.", () => {
      const made = charts.figure({ x: "training images of the class", y: "length of the weight vector", xType: "log",
        height: 330 });
      charts.markShots(made, run);
      live.norms = new Bokeh.ColumnDataSource({ data: {
        x: frequencies, y: lengths(), colour: shotColour(), name: run.names, train: Array.from(run.trainImages),
      } });
      const points = made.scatter({ field: "x" }, { field: "y" }, { source: live.norms, size: numClasses > 1000 ? 4 : 6,
        fill_color: { field: "colour" }, line_color: null, fill_alpha: numClasses > 1000 ? 0.4 : 0.7 });
      charts.hover(made, [points], [["class", "@name"], ["training images", "@train"], ["length", "@y{0.000}"]]);
      return made;
    }, "21rem");
  }
  charts.add(drawings, "Accuracy of each class at this τ against its number of training images.", () => {
    const made = charts.figure({ x: "training images of the class", y: "test images recognised, in per cent",
      xType: "log", yRange: [-6, 106], height: 330 });
    charts.markShots(made, run);
    live.points = new Bokeh.ColumnDataSource({ data: {
      x: frequencies, y: heights(), colour: shotColour(), name: run.names, train: Array.from(run.trainImages),
      percent: Array.from(accuracies(), percent),
    } });
    const points = made.scatter({ field: "x" }, { field: "y" }, { source: live.points, size: numClasses > 1000 ? 4 : 6,
      fill_color: { field: "colour" }, line_color: null, fill_alpha: numClasses > 1000 ? 0.35 : 0.55 });
    live.mean = new Bokeh.ColumnDataSource({ data: charts.runningMean(run.trainImages, accuracies()) });
    made.line({ field: "x" }, { field: "y" }, { source: live.mean, line_color: colours.named("--text"), line_width: 3 });
    charts.hover(made, [points], [["class", "@name"], ["training images", "@train"], ["recognised", "@percent %"]]);
    return made;
  }, "21rem");
  charts.add(drawings, "Accuracy on many-, medium- and few-shot classes against τ.", () => {
    const made = charts.figure({ x: "τ", y: "images recognised, in per cent", yRange: [-3, 103], height: 330 });
    for (const shot of ["many", "medium", "few"]) {
      made.line(taus, curve[shot].map((value) => value ?? NaN), { line_color: colours.named(`--${shot}`), line_width: 3 });
      made.scatter(taus, curve[shot].map((value) => value ?? NaN), { size: 6, line_color: null,
        fill_color: colours.named(`--${shot}`), marker: { many: "circle", medium: "triangle", few: "square" }[shot] });
    }
    live.now = new Bokeh.Span({ location: taus[place], dimension: "height", line_color: colours.named("--text"), line_width: 2 });
    made.add_layout(live.now);
    if (chosen !== null) made.add_layout(new Bokeh.Span({ location: chosen, dimension: "height", line_dash: [3, 4],
      line_color: colours.named("--muted") }));
    return made;
  }, "21rem");
  const legend = ["many", "medium", "few"].map((shot) => element("span", { class: `shot ${shot}` }, shot));
  body.append(element("p", { class: "caption" }, "Colours: classes of many, medium and few training images ",
    ...legend.flatMap((one) => [one, " "]), chosen === null ? "" :
      `The dashed line of the last chart: ${run.classifiers.find((one) => one.name === "tau").parameters}.`));

  function heights() {
    return Array.from(accuracies(), (accuracy, one) => charts.apart(accuracy, run.images[one], one, 1));
  }

  function update() {
    if (live.norms) live.norms.data = { ...live.norms.data, y: lengths() };
    if (live.points) {
      live.points.data = { ...live.points.data, y: heights(), percent: Array.from(accuracies(), percent) };
      live.mean.data = charts.runningMean(run.trainImages, accuracies());
    }
    if (live.now) live.now.location = taus[place];
  }

  tell();
});
