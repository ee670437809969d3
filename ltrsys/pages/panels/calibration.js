"use strict";
ltrsys.panel("calibration", (body, data, run) => {
  const { element, choice, charts, colours } = ltrsys;
  const known = data.classifiers.map(({ place, measured }) => ({ ...run.classifiers[place], measured }));
  const preferred = known.findIndex(({ name }) => name === "crt");
  let chosen = known[Math.max(0, preferred)];
  const drawing = element("div");
  const tables = element("div");
  body.append(
    element("div", { class: "toolbar" }, choice("Classifier", known.map(({ label }) => label), known.indexOf(chosen), change)),
    element("div", { class: "beside" }, drawing, tables));
  const redraw = charts.add(drawing, "Share of right answers against their probability, before and after calibration.",
    build, "28rem");
  list();

  function change(place) {
    chosen = known[place];
    redraw();
    list();
  }

  function build() {
    const { before, after } = chosen.measured;
    const made = charts.figure({ x: "probability of the answer, per cent", y: "answers that are right, per cent",
      xRange: [-3, 103], yRange: [-3, 103], height: 440 });
    made.line([0, 100], [0, 100], { line_color: colours.named("--muted"), line_dash: [5, 4] });
    const lines = [[before, "--muted", "square", "before"], [after, "--accent", "circle", "after"]];
    const renderers = lines.map(([{ bins }, colour, marker, when]) => {
      const columns = { x: bins.confidence.map(hundred), y: bins.accuracy.map(hundred), images: bins.images,
        when: bins.images.map(() => when) };
      made.line(columns.x, columns.y, { line_color: colours.named(colour), line_width: 2.5,
        ...(when === "before" ? { line_dash: [2, 4] } : {}) });
      return made.scatter({ field: "x" }, { field: "y" }, { source: new Bokeh.ColumnDataSource({ data: columns }), marker,
        size: 8, fill_color: colours.named(colour), line_color: null });
    });
    charts.hover(made, renderers, [["calibration", "@when"], ["probability", "@x{0.0} %"], ["right", "@y{0.0} %"], ["images", "@images"]]);
    return made;
  }

  function list() {
    const { temperature, fitted_on: fittedOn, before, after, precisions, sets, adjusted_sets: adjusted } = chosen.measured;
    const shots = ["many", "medium", "few", "all"];
    tables.replaceChildren(
      element("p", { class: "caption" }, `Temperature ${temperature.toPrecision(3)}, fitted on ${fittedOn}. In the chart: `,
        swatch("--muted"), " before, ", swatch("--accent"), " after."),
      table("How far probability is from truth, in per cent", ["", ...shots],
        [["before", before], ["after", after]].map(([when, { calibration_error: error }]) => [when, ...shots.map((shot) => one(error[shot]))])),
      table("If only sure answers are given", ["wanted", "from a probability of", "right", "answered"],
        precisions.map(({ wanted, threshold, precision, answered }) => threshold === null
          ? [`${hundred(wanted)} %`, "not to be had", "–", "–"]
          : [`${hundred(wanted)} %`, `${one(hundred(threshold))} %`, `${one(precision.all)} %`, `${one(answered.all)} %`])),
      table("Sets that are to hold the right name for 90 %", ["", ...shots], [
        ["plain: hold it, %", ...shots.map((shot) => one(sets.coverage[shot]))],
        ["plain: names", ...shots.map((shot) => one(sets.mean_size[shot]))],
        ["adjusted: hold it, %", ...shots.map((shot) => one(adjusted.coverage[shot]))],
        ["adjusted: names", ...shots.map((shot) => one(adjusted.mean_size[shot]))],
      ]));
  }

  function hundred(share) {
    return Math.round(1000 * share) / 10;
  }

  function one(value) {
    return value === null || value === undefined ? "–" : value.toFixed(1);
  }

  function swatch(colour) {
    const made = element("span", { class: "swatch" });
    made.style.borderColor = `var(${colour})`;
    return made;
  }

  function table(caption, headings, rows) {
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      element("table", { class: "plain" }, element("caption", {}, caption),
        element("thead", {}, element("tr", {}, ...headings.map((text, place) => element("th", { scope: "col", class: place ? "number" : false }, text)))),
        element("tbody", {}, ...rows.map(([first, ...others]) =>
          element("tr", {}, element("th", { scope: "row" }, first), ...others.map((text) => element("td", { class: "number" }, text)))))));
  }
});
