"use strict";
ltrsys.panel("two_classifiers", (body, _, run) => {
  const { element, choice, charts, colours, counted, percent } = ltrsys;
  const MOST = 6;
  const labels = run.classifiers.map((one) => one.label);
  const chosen = [0, ltrsys.bestOf(run, Array.from(run.classifiers.keys()).slice(1))];
  const lists = element("div");
  const drawing = element("div");
  body.append(
    element("div", { class: "toolbar" },
      choice("From", labels, chosen[0], (place) => change(0, place)),
      choice("to", labels, chosen[1], (place) => change(1, place))),
    element("div", { class: "beside" }, drawing, lists));
  const redraw = charts.add(drawing, "Accuracy of each class by one classifier against that by the other; the lists " +
    "beside it name the classes that differ most.", build, "36rem");
  list();

  function change(side, place) {
    chosen[side] = place;
    redraw();
    list();
  }

  function build() {
    const [from, to] = chosen.map((place) => run.classifiers[place]);
    const made = charts.figure({
      x: `${from.label}, per cent`, y: `${to.label}, per cent`, xRange: [-6, 106], yRange: [-6, 106], height: 570,
    });
    made.line([0, 100], [0, 100], { line_color: colours.named("--muted"), line_dash: [5, 4] });
    const renderers = ["many", "medium", "few"].map((shot) => {
      const places = Array.from(run.names.keys()).filter((place) => run.images[place] && run.shots[place] === shot);
      return made.scatter({ field: "x" }, { field: "y" }, {
        source: new Bokeh.ColumnDataSource({ data: {
          x: places.map((place) => charts.apart(from.accuracy[place], run.images[place], place, 1)),
          y: places.map((place) => charts.apart(to.accuracy[place], run.images[place], place, 2)),
          name: places.map((place) => run.names[place]),
          train: places.map((place) => run.trainImages[place]),
          from: places.map((place) => percent(from.accuracy[place])),
          to: places.map((place) => percent(to.accuracy[place])),
        } }),
        marker: { many: "circle", medium: "triangle", few: "square" }[shot],
        size: run.names.length > 1000 ? 5 : 8, fill_color: colours.named(`--${shot}`), line_color: null,
        fill_alpha: run.names.length > 1000 ? 0.4 : 0.65,
      });
    });
    charts.hover(made, renderers, [["class", "@name"], ["training images", "@train"], [from.label, "@from %"], [to.label, "@to %"]]);
    return made;
  }

  function list() {
    const [from, to] = chosen.map((place) => run.classifiers[place]);
    const change = (place) => to.accuracy[place] - from.accuracy[place];
    const order = Array.from(run.names.keys())
      .filter((place) => change(place) !== 0 && !Number.isNaN(change(place)))
      .sort((a, b) => change(b) - change(a) || run.images[b] - run.images[a] || a - b);
    const better = order.filter((place) => change(place) > 0);
    const worse = order.filter((place) => change(place) < 0).reverse();
    const legend = ["many", "medium", "few"].map((shot) => element("span", { class: `shot ${shot}` }, shot));
    lists.replaceChildren(
      element("p", {}, `${to.label} is better on ${counted(better.length)} classes and worse on ` +
        `${counted(worse.length)}. Colours: training images `, ...legend.flatMap((one) => [one, " "])),
      ...block(`Most gained by ${to.label}`, better), ...block(`Most lost by ${to.label}`, worse));

    function block(title, places) {
      if (places.length === 0) return [];
      const rows = places.slice(0, MOST).map((place) => element("tr", {},
        element("th", { scope: "row" }, run.names[place]),
        element("td", { class: "number" }, counted(run.trainImages[place])),
        element("td", { class: "number" }, `${percent(from.accuracy[place])} → ${percent(to.accuracy[place])}`)));
      return [element("h3", {}, title), element("div", { class: "scroll" }, element("table", { class: "plain" },
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "class"),
          element("th", { scope: "col", class: "number" }, "train images"),
          element("th", { scope: "col", class: "number" }, "recognised, %"))),
        element("tbody", {}, ...rows)))];
    }
  }
});
