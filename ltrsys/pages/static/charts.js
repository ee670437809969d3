"use strict";
/* Charts, drawn by BokehJS when they come near the window, and again when the colours change. */
ltrsys.charts = (() => {
  Bokeh.set_log_level("error");
  const MARKERS = {
    o: "circle", D: "diamond", "^": "triangle", s: "square", v: "inverted_triangle", X: "square_x", P: "square_cross",
    p: "hex", h: "hex", H: "hex", "*": "star",
  };
  const TICKS = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
  const all = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = [...all].find((one) => one.host === target);
      if (chart === undefined) continue;
      chart.seen = true;
      if (isIntersecting) chart.near = true;
      if (isIntersecting) redraw(chart);
    }
  }, { rootMargin: "300px" });

  /** Add a chart: `build` makes its figure. Returns what draws it again. */
  function add(body, label, build, height = "24rem") {
    const host = ltrsys.element("div", { class: "chart", role: "figure", "aria-label": label,
      style: `--height: ${height}` });
    const chart = { host, build, near: false, seen: false, view: null, drawing: Promise.resolve() };
    all.forEach((one) => { if (!one.host.isConnected && one.seen) forget(one); });
    all.add(chart);
    body.append(host);
    observer.observe(host);
    return () => (chart.near ? redraw(chart, true) : undefined);
  }

  function forget(chart) {
    observer.unobserve(chart.host);
    all.delete(chart);
    if (chart.view !== null) chart.view.remove();
  }

  /** Draw a chart, if it is not drawn already or is to be drawn anew. */
  function redraw(chart, anew = false) {
    chart.drawing = chart.drawing.then(async () => {
      if (chart.view !== null && !anew) return;
      if (chart.view !== null) chart.view.remove();
      chart.host.replaceChildren();
      chart.view = await Bokeh.Plotting.show(chart.build(), chart.host);
    });
    return chart.drawing;
  }

  ltrsys.colours.onChange(() => all.forEach((chart) => { if (chart.near) redraw(chart, true); }));

  /** Wait until every chart near the window is drawn. */
  async function settled() {
    while ([...all].some((chart) => chart.host.isConnected && !chart.seen)) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    await Promise.all([...all].map((chart) => chart.drawing));
  }

  /** Draw every chart, wherever it is: before the page is printed. */
  const drawAll = () => Promise.all([...all].map((chart) => { chart.near = true; return redraw(chart); }));
  window.addEventListener("beforeprint", drawAll);

  /** Return an empty figure in the colours of the page. */
  function figure({ x, y, xType = "linear", yType = "linear", xRange, yRange, height = 384 }) {
    const { named } = ltrsys.colours;
    const made = Bokeh.Plotting.figure({
      height, sizing_mode: "stretch_width", tools: "box_zoom,reset", toolbar_location: "above",
      x_axis_type: xType, y_axis_type: yType, x_axis_label: x, y_axis_label: y,
      ...(xRange ? { x_range: xRange } : {}), ...(yRange ? { y_range: yRange } : {}),
      background_fill_color: named("--surface"), border_fill_color: named("--surface"), outline_line_color: null,
      min_border_right: 12,
    });
    made.toolbar.logo = null;
    made.toolbar.active_drag = null; // so that a finger scrolls the page
    for (const axis of [...made.xaxes, ...made.yaxes]) {
      axis.axis_label_text_color = named("--text");
      axis.major_label_text_color = named("--muted");
      axis.axis_line_color = named("--line");
      axis.major_tick_line_color = named("--line");
      axis.minor_tick_line_color = null;
      axis.axis_label_text_font_style = "normal";
      axis.axis_label_text_font_size = "13px";
      axis.major_label_text_font_size = "12px";
    }
    const grids = made.center.filter((one) => one.type === "Grid");
    for (const grid of grids) grid.grid_line_color = named("--line");
    if (xType === "log") {
      const ticker = new Bokeh.FixedTicker({ ticks: TICKS });
      made.xaxes[0].ticker = ticker;
      made.xaxes[0].formatter = new Bokeh.NumeralTickFormatter({ format: "0,0" });
      grids.find((grid) => grid.dimension === 0).ticker = ticker;
    }
    return made;
  }

  /** Show a table of texts beside the pointer: `rows` are pairs of a heading and a column such as `@name`. */
  function hover(made, renderers, rows) {
    made.add_tools(new Bokeh.HoverTool({ renderers, tooltips: rows, point_policy: "snap_to_data" }));
  }

  /** Mark where few- and many-shot classes begin, on an axis of training images. */
  function markShots(made, run) {
    for (const location of [run.few, run.many]) {
      made.add_layout(new Bokeh.Span({
        location, dimension: "height", line_color: ltrsys.colours.named("--muted"), line_dash: [3, 4], line_width: 1,
      }));
    }
  }

  /** Return a number between -0.5 and 0.5 that is always the same for a class. */
  function spread(place, seed) {
    const value = Math.sin((place + 1) * 12.9898 + seed * 78.233) * 43758.5453;
    return value - Math.floor(value) - 0.5;
  }

  /** Move points of equal accuracy apart, by less than an image of the class counts. */
  const apart = (accuracy, images, place, seed) => accuracy + spread(place, seed) * Math.min(5, 60 / Math.max(1, images));

  /** Return the x of a class on an axis of training images: a class of none stands left of one image. */
  const frequency = (images, place) => Math.max(images, 0.6) * (1 + 0.06 * spread(place, 7));

  /** Return running means over classes that are neighbours in x: {x, y}. */
  function runningMean(x, y, parts = 24) {
    const order = Array.from(x.keys()).filter((place) => !Number.isNaN(y[place])).sort((a, b) => x[a] - x[b]);
    const least = Math.max(1, order.length / Math.min(parts, Math.max(4, order.length / 14)));
    const means = { x: [], y: [] };
    let [count, logs, total] = [0, 0, 0];
    order.forEach((place, rank) => {
      count += 1;
      logs += Math.log(Math.max(x[place], 0.6));
      total += y[place];
      const last = rank === order.length - 1;
      if (last || (count >= least && x[order[rank + 1]] !== x[place])) {
        if (!(last && count < least / 2 && means.x.length)) {
          means.x.push(Math.exp(logs / count));
          means.y.push(total / count);
        }
        [count, logs, total] = [0, 0, 0];
      }
    });
    return means;
  }

  const marker = (classifier) => MARKERS[classifier.marker] ?? "circle";

  return { add, figure, hover, markShots, apart, frequency, runningMean, marker, settled, drawAll };
})();
