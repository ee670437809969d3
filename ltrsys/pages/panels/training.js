"use strict";
ltrsys.panel("training", (body, data) => {
  const { element, charts, colours } = ltrsys;
  const VAL = {
    "val/many": ["many-shot", "--many"], "val/medium": ["medium-shot", "--medium"], "val/few": ["few-shot", "--few"],
    "val/mean_class_accuracy": ["mean over classes", "--text"], "val/all": ["all images", "--muted"],
  };
  const mean = data.curves.find(({ name }) => name === "val/mean_class_accuracy");
  // on a balanced split the mean over the classes is that over the images: one line is enough
  const twice = ({ name, value }) => name === "val/all" && mean && value.every((one, place) => one === mean.value[place]);
  const val = data.curves.filter((curve) => curve.name in VAL && !twice(curve));
  const named = (name) => data.curves.filter((curve) => curve.name === name);
  const main = element("div", { class: "charts" });
  body.append(main);
  for (const curve of named("train/loss")) single(main, curve, "loss of training batches");
  if (val.length) {
    const drawing = element("div");
    main.append(drawing);
    charts.add(drawing, "Accuracy on val over the epochs.", () => {
      const made = charts.figure({ x: "epoch", y: "val images recognised, in per cent", yRange: [-3, 103], height: 300 });
      for (const { name, epoch, value } of val) {
        const colour = colours.named(VAL[name][1]);
        made.line(epoch, value, { line_color: colour, line_width: 2.5 });
        made.scatter(epoch, value, { fill_color: colour, line_color: null, size: 6 });
      }
      return made;
    }, "19rem");
    drawing.append(element("p", { class: "caption" }, ...val.flatMap(({ name }) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.borderColor = `var(${VAL[name][1]})`;
      return [swatch, ` ${VAL[name][0]}  `];
    })));
  }
  for (const curve of named("train/learning_rate")) single(main, curve, "learning rate");
  const others = data.curves.filter(({ name }) => !(name in VAL) && name !== "train/loss" && name !== "train/learning_rate");
  if (others.length) {
    const more = element("div", { class: "charts" });
    body.append(element("details", { class: "more" }, element("summary", {}, "What else was logged"), more));
    for (const curve of others) single(more, curve, curve.name.replace("/", ": ").replaceAll("_", " "));
  }

  function single(host, { epoch, value }, title) {
    const drawing = element("div");
    host.append(drawing);
    charts.add(drawing, `${title} over the epochs.`, () => {
      const made = charts.figure({ x: "epoch", y: title, height: 300 });
      made.line(epoch, value, { line_color: colours.named("--accent"), line_width: 2 });
      if (epoch.length < 30) made.scatter(epoch, value, { fill_color: colours.named("--accent"), line_color: null, size: 6 });
      return made;
    }, "19rem");
  }
});
